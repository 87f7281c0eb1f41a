#include "train/report/prediction.h"

#include <fmt/core.h>

#include <ostream>
#include <utility>

#include "core/base/median.h"
#include "core/base/text.h"

namespace toroid::train {
namespace {

std::string row(const char* name, const std::string& predicted, const std::string& measured, double error) {
  return fmt::format("  {:<20} {:>12} {:>12}  {:+7.1f} %\n", name, predicted, measured, 100 * error);
}

std::string row(const char* name, double predicted_s, double measured_s) {
  const auto text = [](double s) { return fmt::format("{:.4f} s", s); };
  return row(name, text(predicted_s), text(measured_s), measured_s > 0 ? predicted_s / measured_s - 1 : 0);
}

}  // namespace

StepPhases phases_of(const Device& device, const StepMarks& marks) {
  StepPhases out;
  Event from = marks.begin;
  for (size_t k = 0; k < marks.forward_end.size(); ++k) {
    out.forward_s += device.elapsed(from, marks.forward_end[k]).count();
    out.backward_s += device.elapsed(marks.forward_end[k], marks.backward_end[k]).count();
    from = marks.backward_end[k];
  }
  out.optimizer_s = device.elapsed(from, marks.end).count();
  return out;
}

StepPhases median_phases(const std::vector<StepPhases>& steps) {
  const auto of = [&](double StepPhases::*phase) {
    std::vector<double> values;
    for (const StepPhases& step : steps) values.push_back(step.*phase);
    return median(std::move(values));
  };
  return {of(&StepPhases::forward_s), of(&StepPhases::backward_s), of(&StepPhases::optimizer_s)};
}

void print_comparison(std::ostream& out, const Comparison& comparison) {
  const Prediction &predicted = comparison.predicted, &measured = comparison.measured;
  out << fmt::format("step, {:>6} steps    simulated     measured  (chip host, median)\n",
                     with_commas(comparison.steps));
  out << row("forward", predicted.time.forward_s, measured.time.forward_s);
  out << row("backward", predicted.time.backward_s, measured.time.backward_s);
  out << row("optimizer", predicted.time.optimizer_s, measured.time.optimizer_s);
  out << row("in all", predicted.time.step_s(), measured.time.step_s());
  const auto bytes = [](double value) { return human_bytes(static_cast<int64_t>(value)); };
  out << row("peak memory", bytes(predicted.bytes), bytes(measured.bytes), comparison.bytes_error());
  if (!predicted.doubt.empty()) out << "  " << predicted.doubt << "\n";
}

}  // namespace toroid::train
