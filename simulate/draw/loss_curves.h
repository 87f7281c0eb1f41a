// The validation losses of runs as a picture: at equal tokens and at equal time.
#pragma once

#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid::train {

// The most curves in one picture.
inline constexpr size_t kMostCurves = 8;

struct LossCurve {
  struct Point {
    double tokens = 0;   // trained on
    double seconds = 0;  // that the steps took
    double loss = 0;     // nats a token
  };
  std::string name;
  std::vector<Point> points;  // in the order of the steps
};

// The validations in a run's metrics.jsonl. UserError where a line is no row of metrics, or where there is no
// validation.
LossCurve read_loss_curve(const std::string& name, const Path& metrics);
// From the file's text; `origin` is its name in errors.
LossCurve loss_curve(const std::string& name, const std::string& text, const std::string& origin);

// Self-contained.
std::string loss_curves_svg(const std::vector<LossCurve>& curves);

}  // namespace toroid::train
