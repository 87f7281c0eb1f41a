// What the simulator's chip `host` says of a run on this machine, beside what the run measured.
#pragma once

#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "core/base/clock.h"
#include "core/device/device.h"
#include "train/step/step_program.h"

namespace toroid::train {

// The seconds of a step; backward includes what is recomputed, and all of them what collectives expose.
struct StepPhases {
  double forward_s = 0, backward_s = 0, optimizer_s = 0;
  double step_s() const { return forward_s + backward_s + optimizer_s; }
};
// The phases of the step that left these marks, which is done.
StepPhases phases_of(const Device& device, const StepMarks& marks);
// The median of each phase on its own.
StepPhases median_phases(const std::vector<StepPhases>& steps);

struct Prediction {
  StepPhases time;
  double bytes = 0;        // the peak of the rank that takes the most
  std::string doubt = {};  // a sentence where the machine's figures are doubtful, else empty
};
// Nothing where this machine was not measured, or where its figures say nothing of such a run.
using Predict = std::function<std::optional<Prediction>(const config::RunConfig& run)>;

struct Comparison {
  Prediction predicted, measured;
  int64_t steps = 0;  // that were measured
  // Predicted over measured, less 1.
  double time_error() const { return predicted.time.step_s() / measured.time.step_s() - 1; }
  double bytes_error() const { return predicted.bytes / measured.bytes - 1; }
};
void print_comparison(std::ostream& out, const Comparison& comparison);

}  // namespace toroid::train
