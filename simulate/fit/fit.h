// Fits the constants of a calibration file on its points, and says what is left.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "simulate/play/calibration.h"
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
  double rms = 0;         // of the errors of models whose ratios are bounded
  bool left_out = false;  // whether left_out_error is there
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
  // Least squares of the relative errors of step times and collectives, within the constants' bounds, from
  // starting points that do not depend on the file's values. `without`: a model whose runs do not count.
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
    std::string program;
    std::vector<ProgramStep> roles;
    int64_t peak_bytes = 0;
  };
  struct Collective {
    sim::Chip chip;
    std::unique_ptr<mesh::Mesh> mesh;
    CollectiveInfo info;
  };

  config::Calibration with(const Values& values) const;
  Seconds step_of(const Point& point, const config::Calibration& constants) const;
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
