// Which checkpoint follows from which. Each names the run that made it and its parent: the save before it in
// the same process, or the checkpoint that was resumed. So the steps of one branch are told from those of
// another that the run has left, whatever their numbers.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

// One checkpoint for good: a step that is saved again has another seal.
struct CheckpointId {
  int64_t step = 0;
  std::string seal;  // its manifest's hash
  bool operator==(const CheckpointId&) const = default;
};

struct Lineage {
  std::string run;                     // made once for each run directory; "" in older checkpoints
  std::optional<CheckpointId> parent;  // nothing: the first of its run, or older than parents
};

// 32 random hexadecimal digits.
std::string new_run_id();

// A step of a folder of steps, as its manifest names it.
struct KnownStep {
  int64_t step = 0;
  std::string seal;                    // "" where the manifest cannot be read
  std::optional<CheckpointId> parent;  // nothing: it follows the step before it
};

// As it names a run or a step: a trailing slash would leave no file name.
inline Path without_slash(const Path& path) {
  return path.has_filename() ? path : path.parent_path();
}
// N of ".../step-N" as a save spells it.
std::optional<int64_t> step_of(const Path& directory);
// By name alone, oldest first.
std::vector<int64_t> steps_in(const Path& checkpoints);
std::vector<KnownStep> known_steps(const Path& checkpoints, std::span<const int64_t> steps);

// The `steps` (oldest first) that are no part of the branch that ends with `tip`, one of them: later ones,
// and earlier ones where the branch has another checkpoint or none. A parent that is not there says nothing,
// since older steps are pruned.
std::vector<int64_t> outside_branch(std::span<const KnownStep> steps, int64_t tip);

// The steps, newest first, with which the branch that was trained last may end. One that an earlier step is
// no ancestor of cannot be newer than that one: whoever goes back sets later steps aside before saving.
std::vector<int64_t> newest_first(std::span<const KnownStep> steps);

}  // namespace toroid
