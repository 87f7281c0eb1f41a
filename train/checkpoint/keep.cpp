#include "train/checkpoint/keep.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {

std::set<int64_t> best_steps(std::span<const KeptStep> steps, int64_t count) {
  std::vector<KeptStep> measured;
  for (const KeptStep& step : steps) {
    if (step.validation_loss && std::isfinite(*step.validation_loss)) measured.push_back(step);
  }
  std::sort(measured.begin(), measured.end(), [](const KeptStep& a, const KeptStep& b) {
    return std::pair(*a.validation_loss, b.step) < std::pair(*b.validation_loss, a.step);
  });
  measured.resize(std::min(measured.size(), static_cast<size_t>(std::max<int64_t>(0, count))));
  std::set<int64_t> out;
  for (const KeptStep& step : measured) out.insert(step.step);
  return out;
}

std::vector<int64_t> steps_to_remove(std::span<const KeptStep> steps, const KeepRules& rules) {
  std::set<int64_t> kept = best_steps(steps, rules.best);
  const size_t newest = std::min(steps.size(), static_cast<size_t>(std::max<int64_t>(1, rules.newest)));
  for (const KeptStep& step : steps.last(newest)) kept.insert(step.step);
  for (const KeptStep& step : steps) {
    if (rules.every > 0 && step.step % rules.every == 0) kept.insert(step.step);
  }
  std::vector<int64_t> out;
  for (const KeptStep& step : steps) {
    if (!kept.contains(step.step)) out.push_back(step.step);
  }
  return out;
}

std::optional<double> validation_loss(const CheckpointState& state) {
  const auto loss = state.scalars.find(kValidationLoss);
  if (loss == state.scalars.end()) return std::nullopt;
  return loss->second;
}

std::vector<KeptStep> kept_steps(const Path& checkpoints, std::span<const int64_t> steps) {
  std::vector<KeptStep> out;
  for (const int64_t step : steps) {
    out.push_back({step, {}});
    try {
      out.back().validation_loss = validation_loss(read_manifest(checkpoints / step_name(step)).state);
    } catch (const Error&) {
      // Damaged, which whoever loads it says.
    }
  }
  return out;
}

}  // namespace toroid
