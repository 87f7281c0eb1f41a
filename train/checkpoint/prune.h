// Takes older steps of a run away: those that are to stay are read whole before anything goes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid {

struct PruneOptions {
  int64_t keep = 1;   // the newest so many whole steps stay
  int64_t every = 0;  // and those whose number is a multiple of it; 0: no others
  int64_t best = 0;   // and as many with the lowest validation loss
  int threads = 1;    // that read files
};

struct PrunePlan {
  Path checkpoints;
  std::vector<int64_t> keep, remove;  // oldest first
  int64_t bytes_kept = 0, bytes_freed = 0;
  std::vector<std::string> notes;  // what is left alone and why, printable
};

// Reads every step that is to stay. Of the branch that the run goes on with; steps of other branches and
// those set aside stay too, as do damaged ones that are newer than what is kept. UserError where no step is
// whole, or one that `every` or `best` keeps is damaged.
PrunePlan plan_prune(const Path& run, const PruneOptions& options);

// Removes, oldest first, each by a rename before its files go, so that half a removal never looks like a
// step. `may_write` is asked before each and throws where the directory is another's. Returns the steps
// removed; SystemError where one cannot be.
int64_t prune(const PrunePlan& plan, const std::function<void()>& may_write);

}  // namespace toroid
