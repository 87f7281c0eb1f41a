#include "train/checkpoint/lineage.h"

#include <algorithm>
#include <charconv>
#include <random>

#include "core/base/error.h"
#include "core/base/text.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {

std::string new_run_id() {
  std::random_device random;
  std::string id;
  for (int i = 0; i < 2; ++i) id += hex((uint64_t{random()} << 32) | random());
  return id;
}

std::optional<int64_t> step_of(const Path& directory) {
  const std::string name = directory.filename().string();
  constexpr std::string_view prefix = "step-";
  if (!name.starts_with(prefix)) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + prefix.size(), end, step);
  if (error != std::errc() || stop != end || step < 0 || name != step_name(step)) return std::nullopt;
  return step;
}

std::vector<int64_t> steps_in(const Path& checkpoints) {
  std::vector<int64_t> steps;
  if (!is_present(checkpoints)) return steps;
  for (const Path& entry : list_directory(checkpoints)) {
    if (const auto step = step_of(entry)) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::vector<KnownStep> known_steps(const Path& checkpoints, std::span<const int64_t> steps) {
  std::vector<KnownStep> known;
  for (const int64_t step : steps) {
    KnownStep& one = known.emplace_back();
    one.step = step;
    try {
      const Manifest manifest = read_manifest(checkpoints / step_name(step));
      one.seal = manifest.seal;
      one.parent = manifest.state.lineage.parent;
    } catch (const Error&) {
      // damaged, which is said where it is loaded
    }
  }
  return known;
}

std::vector<int64_t> outside_branch(std::span<const KnownStep> steps, int64_t tip) {
  std::vector<int64_t> outside;
  std::optional<CheckpointId> parent;  // of the oldest step known to be of the branch
  for (size_t i = steps.size(); i-- > 0;) {
    const KnownStep& step = steps[i];
    bool inside = step.step <= tip;
    if (inside && step.step < tip && parent && step.step >= parent->step) {
      inside = step.step == parent->step && (step.seal == parent->seal || step.seal.empty());
      // The branch has another checkpoint of this step; what came before that one is not known.
      if (!inside && step.step == parent->step) parent.reset();
    }
    if (inside) {
      parent = step.parent;
    } else {
      outside.push_back(step.step);
    }
  }
  std::reverse(outside.begin(), outside.end());
  return outside;
}

std::vector<int64_t> newest_first(std::span<const KnownStep> steps) {
  std::vector<int64_t> newest;
  for (size_t i = steps.size(); i-- > 0;) {
    if (outside_branch(steps.first(i + 1), steps[i].step).empty()) newest.push_back(steps[i].step);
  }
  return newest;
}

}  // namespace toroid
