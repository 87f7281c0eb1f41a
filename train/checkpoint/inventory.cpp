#include "train/checkpoint/inventory.h"

#include <sys/stat.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "train/checkpoint/aside.h"
#include "train/checkpoint/lineage.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {
namespace {

std::vector<int64_t> on_branch(const Path& checkpoints, const std::vector<int64_t>& steps) {
  const std::vector<KnownStep> known = known_steps(checkpoints, steps);
  const std::vector<int64_t> newest = newest_first(known);
  std::vector<int64_t> out = steps;
  if (newest.empty()) return out;
  const std::vector<int64_t> outside = outside_branch(known, newest.front());
  std::erase_if(
      out, [&](int64_t step) { return std::find(outside.begin(), outside.end(), step) != outside.end(); });
  return out;
}

}  // namespace

Path checkpoints_of(const Path& run) {
  const Path path = without_slash(run);
  return path.filename() == "checkpoints" ? path : path / "checkpoints";
}

ListedStep list_step(const Path& step, const CheckOptions& options) {
  const Path path = without_slash(step);
  ListedStep out;
  out.check = check_step(path, options);
  const auto named = step_of(path);
  out.step = named ? *named : out.check.manifest ? out.check.manifest->state.step : 0;
  if (is_aside(path.parent_path())) {
    out.branch = Branch::aside;
    out.aside = path.parent_path().filename().string();
  }
  struct stat status {};
  if (::stat((path / Manifest::kName).c_str(), &status) == 0) out.saved = status.st_mtime;
  return out;
}

Inventory list_run(const Path& run, const CheckOptions& options) {
  const Path checkpoints = checkpoints_of(run);
  Inventory out{run_of_checkpoint(run), {}, {}};
  if (!is_present_directory(checkpoints)) {
    throw UserError("there are no checkpoints under " + in_quotes(run.string()) +
                    ": it has no directory checkpoints; give the directory of a run or one of its "
                    "checkpoints/step-N");
  }
  for (const Path& entry : list_directory(checkpoints)) {
    const std::string name = entry.filename().string();
    if (name.starts_with('.') && is_present_directory(entry)) out.unfinished.push_back(name);
    if (!is_aside(entry)) continue;
    for (const int64_t step : steps_in(entry)) {
      out.steps.push_back(list_step(entry / step_name(step), options));
    }
  }
  const std::vector<int64_t> steps = steps_of_run(checkpoints);
  const std::vector<int64_t> current = on_branch(checkpoints, steps);
  for (const int64_t step : steps) {
    const Path path = checkpoints / step_name(step);
    if (!is_present_directory(path)) continue;  // a run that is being trained has pruned it meanwhile
    ListedStep& listed = out.steps.emplace_back(list_step(path, options));
    if (!listed.check.whole() && !is_present_directory(path)) {
      out.steps.pop_back();
      continue;
    }
    if (std::find(current.begin(), current.end(), step) == current.end()) listed.branch = Branch::left;
  }
  std::sort(out.unfinished.begin(), out.unfinished.end());
  return out;
}

Path newest_step(const Path& run_or_step) {
  if (is_checkpoint(run_or_step)) return without_slash(run_or_step);
  const Path checkpoints = checkpoints_of(run_or_step);
  const std::vector<int64_t> steps = steps_of_run(checkpoints);
  for (const int64_t step : newest_first(known_steps(checkpoints, steps))) {
    const Path path = checkpoints / step_name(step);
    const StepCheck check = check_step(path, {.depth = Depth::lengths});
    if (check.whole()) return path;
    log::warn("{} is damaged and passed over: {}", step_name(step), to_text(check.faults.front()));
  }
  throw UserError("there is no checkpoint under " + in_quotes(run_or_step.string()) + ": " +
                  (steps.empty() ? "it has no checkpoints/step-N; give a run directory or one of its steps"
                                 : "none of its " + std::to_string(steps.size()) + " steps is whole"));
}

}  // namespace toroid
