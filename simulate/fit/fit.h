// Fits the constants of a calibration file on its points, and says what is left.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "simulate/play/calibration.h"
#include "simulate/play/simulate.h"
#include "train/engine/plugins.h"

namespace toroid::train {

// A published step beside the simulated one. Errors are relative: simulated / published - 1.
struct RunError {
  std::string model;
  int64_t pods = 1;
  double published_mfu = 0, mfu = 0;
  Seconds step{0};
  double error = 0;           // in MFU
  double ratio_error = 0;     // in step(pods) / step(1 pod)
  double left_out_error = 0;  // in MFU, with constants fitted without the model; 0 where it was not asked for
  double null_error = 0;      // in MFU, of the null model (NullModel) fitted on the same runs
  double null_left_out = 0;   // and fitted without the model
  int64_t peak_bytes = 0;
};

struct CollectiveError {
  std::string name;
  Seconds measured{0}, simulated{0};
  double error = 0;
};

struct Residuals {
  std::vector<RunError> runs;  // as in the file
  std::vector<CollectiveError> collectives;
  double rms = 0;         // of the errors of runs that are fitted on
  double null_rms = 0;    // of the null model's
  bool left_out = false;  // whether left_out_error is there
  double left_out_rms = 0, null_left_out_rms = 0;
};

// What one would say without a simulator: a step takes its model FLOPs at one efficiency of the peak, and
// each further pod adds a share of that, the second one another.
struct NullModel {
  double efficiency = 1, second_pod = 0, each_pod = 0;
  // With the least squares of the relative errors of step times. `ideal`: seconds at the peak.
  struct Point {
    double ideal = 0, seconds = 0;
    int64_t pods = 1;
  };
  static NullModel fit(const std::vector<Point>& points);
  double seconds(double ideal, int64_t pods) const;
};

// One value for each constant of the file, in its order.
using Values = std::vector<double>;

class Calibrator {
 public:
  // Records every step of the file once; recipes stand beside `file`.
  Calibrator(config::Calibration calibration, const Path& file, const Plugins& plugins);

  const config::Calibration& calibration() const { return calibration_; }
  Values values() const;  // the file's
  Residuals evaluate(const Values& values) const;
  // Least squares of the relative errors of step times, of step(pods) / step(1 pod) and of collectives,
  // within the constants' bounds, from starting points that do not depend on the file's values. `without`: a
  // model whose runs do not count.
  Values fit(const std::string& without = "") const;
  // evaluate(), and for each model that counts in the fit its errors with constants fitted without it.
  Residuals with_left_out(const Values& values) const;

 private:
  struct Point {
    size_t training = 0;
    int64_t pods = 1;
    double flops = 0;  // of the model
    double published_mfu = 0;
    double peak_flops_per_s = 0;  // of all chips
    sim::Chip chip;
    config::RunConfig run;
    std::vector<SimulatedRole> roles;
    double published() const { return flops / peak_flops_per_s / published_mfu; }  // seconds
  };
  struct Collective {
    sim::Chip chip;
    std::unique_ptr<mesh::Mesh> mesh;
    CollectiveInfo info;
  };

  config::Calibration with(const Values& values) const;
  bool counts(const Point& point, const std::string& without) const;
  Seconds step_of(const Point& point, const config::Calibration& constants) const;
  CollectiveError collective_error(size_t i, const config::Calibration& constants) const;
  NullModel null_model(const std::string& without) const;
  std::vector<double> errors(const Values& values, const std::string& without) const;

  config::Calibration calibration_;
  std::vector<Point> points_;
  std::vector<Collective> collectives_;
};

// Constants, runs and collectives as tables, for a terminal or for a page.
std::string to_text(const config::Calibration& calibration, const Residuals& residuals, bool markdown);
// A sentence for each bound of the file that does not hold.
std::vector<std::string> broken_bounds(const config::Calibration& calibration, const Residuals& residuals);

}  // namespace toroid::train
