// Which checkpoints of a run stay when a newer one is there.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

struct CheckpointState;  // checkpoint.h

struct KeepRules {
  int64_t newest = 3;  // as many of the newest; at least 1
  int64_t every = 0;   // and those of steps that this divides, for good; 0: none
  int64_t best = 0;    // and as many with the lowest validation loss
};

// What the rules ask of a step.
struct KeptStep {
  int64_t step = 0;
  std::optional<double> validation_loss;  // of its weights; nothing where none was measured
};

// The name under which a checkpoint's scalars have its validation loss.
inline constexpr const char* kValidationLoss = "validation_loss";

// The `count` steps with the lowest validation loss. Of equal losses the newer counts as better; without one,
// or with one that is not finite, a step is never among them.
std::set<int64_t> best_steps(std::span<const KeptStep> steps, int64_t count);

// Of `steps`, oldest first, those that no rule keeps.
std::vector<int64_t> steps_to_remove(std::span<const KeptStep> steps, const KeepRules& rules);

// Of the weights that a checkpoint holds, if it was measured.
std::optional<double> validation_loss(const CheckpointState& state);

// As the manifests of `steps` have it; one that cannot be read has no loss.
std::vector<KeptStep> kept_steps(const Path& checkpoints, std::span<const int64_t> steps);

}  // namespace toroid
