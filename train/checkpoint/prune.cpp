#include "train/checkpoint/prune.h"

#include <set>

#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "train/checkpoint/inventory.h"
#include "train/checkpoint/keep.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {

PrunePlan plan_prune(const Path& run, const PruneOptions& options) {
  check_range("--keep", options.keep, int64_t{1}, int64_t{1} << 40);
  check_range("--every", options.every, int64_t{0}, int64_t{1} << 40);
  check_range("--best", options.best, int64_t{0}, int64_t{1} << 40);
  if (is_checkpoint(run)) {
    throw UserError(in_quotes(run.string()) + " is one checkpoint; give the run whose older ones are to go");
  }
  PrunePlan plan;
  plan.checkpoints = checkpoints_of(run);
  const Inventory inventory = list_run(run, {.depth = Depth::lengths});
  std::vector<KeptStep> measured;
  for (const ListedStep& listed : inventory.steps) {
    if (listed.branch == Branch::current && listed.check.manifest)
      measured.push_back({listed.step, validation_loss(listed.check.manifest->state)});
  }
  const std::set<int64_t> best = best_steps(measured, options.best);
  int64_t whole = 0;
  for (auto listed = inventory.steps.rbegin(); listed != inventory.steps.rend(); ++listed) {
    const std::string name = step_name(listed->step);
    if (listed->branch == Branch::aside) {
      plan.notes.push_back(listed->aside + "/" + name + " was set aside and stays");
      continue;
    }
    if (listed->branch == Branch::left) {
      plan.notes.push_back(name + " is of a branch that the run has left and stays");
      continue;
    }
    const bool wanted = whole < options.keep;
    const bool regular = options.every > 0 && listed->step % options.every == 0;
    if (!wanted && !regular && !best.contains(listed->step)) {
      plan.remove.insert(plan.remove.begin(), listed->step);
      plan.bytes_freed += listed->check.bytes;
      continue;
    }
    const StepCheck check =
        check_step(listed->check.directory, {.depth = Depth::contents, .threads = options.threads});
    if (check.whole()) {
      ++whole;
      plan.keep.insert(plan.keep.begin(), listed->step);
      plan.bytes_kept += check.bytes;
    } else if (wanted) {
      plan.notes.push_back(name + " is damaged, is not counted and stays: " + to_text(check.faults.front()));
    } else {
      const std::string rule =
          regular ? "--every " + std::to_string(options.every) : "--best " + std::to_string(options.best);
      throw UserError(
          "nothing was removed, since " + name + ", which " + rule +
          " keeps, is damaged; move it away, or prune without this rule: " + to_text(check.faults.front()));
    }
  }
  if (whole == 0) {
    throw UserError("nothing was removed, since none of the run's " + std::to_string(inventory.steps.size()) +
                    " steps under " + in_quotes(run.string()) + " is whole; see toroid checkpoint verify");
  }
  return plan;
}

int64_t prune(const PrunePlan& plan, const std::function<void()>& may_write) {
  int64_t removed = 0;
  for (const int64_t step : plan.remove) {
    may_write();
    remove_step(plan.checkpoints, step);
    ++removed;
  }
  return removed;
}

}  // namespace toroid
