// The checkpoints of a run as they lie there: whole, damaged, of a branch that was left, set aside.
#pragma once

#include <string>
#include <vector>

#include "train/checkpoint/step_check.h"

namespace toroid {

enum class Branch : uint8_t {
  current,  // what the run goes on with
  left,     // beside it in checkpoints/, of a branch that the run has left
  aside,    // in checkpoints/aside-K
};

struct ListedStep {
  int64_t step = 0;  // by its name
  Branch branch = Branch::current;
  std::string aside;  // "aside-0" of one that was set aside
  int64_t saved = 0;  // seconds since 1970, when the manifest was written; 0: not known
  StepCheck check;
};

struct Inventory {
  Path run;
  std::vector<ListedStep> steps;        // those set aside first, then oldest first
  std::vector<std::string> unfinished;  // what a stop has left half done: ".saving-step-9"
};

// UserError where `run` holds no checkpoints.
Inventory list_run(const Path& run, const CheckOptions& options);

// One step, by the directory that it lies in.
ListedStep list_step(const Path& step, const CheckOptions& options);

// The step that a `--checkpoint` argument stands for: itself, or the newest of the run's branch whose files
// have their lengths; damaged ones are named in the log. UserError where there is none.
Path newest_step(const Path& run_or_step);

// Where a run's steps lie: its checkpoints/, or the argument itself where that is named so.
Path checkpoints_of(const Path& run);

}  // namespace toroid
