// Which checkpoints of a run stay when a newer one is there.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

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

// Of `steps`, oldest first, those that no rule keeps. Of equal losses the newer counts as better.
std::vector<int64_t> steps_to_remove(std::span<const KeptStep> steps, const KeepRules& rules);

// As the manifests of `steps` have it; one that cannot be read has no loss.
std::vector<KeptStep> kept_steps(const Path& checkpoints, std::span<const int64_t> steps);

}  // namespace toroid
