// toroid checkpoint prune: older checkpoints of a run go.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "core/base/io/directory_lock.h"
#include "core/base/text.h"
#include "launch/toroid/checkpoint_json.h"
#include "launch/toroid/verb.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/inventory.h"
#include "train/checkpoint/prune.h"

namespace toroid::launch {
namespace {

struct PruneFlags {
  std::string run;
  PruneOptions options;
  bool dry_run = false;
};

std::string list_of(const std::vector<int64_t>& steps) {
  std::string text;
  for (const int64_t step : steps) text += (text.empty() ? "" : ", ") + std::to_string(step);
  return text.empty() ? "none" : text;
}

ExitCode run(const PruneFlags& flags) {
  if (!is_present_directory(checkpoints_of(flags.run))) {
    throw UserError("there are no checkpoints under " + in_quotes(flags.run) +
                    ": give the directory of a run");
  }
  std::optional<DirectoryLock> lock;
  if (!flags.dry_run) lock.emplace(run_of_checkpoint(flags.run));
  PruneOptions options = flags.options;
  options.threads = reading_threads();
  const PrunePlan plan = plan_prune(flags.run, options);
  for (const std::string& note : plan.notes) print_line(note);
  print_line(fmt::format("kept, and read whole: {} ({})", list_of(plan.keep), human_bytes(plan.bytes_kept)));
  if (flags.dry_run) {
    print_line(fmt::format("would be removed: {} ({})", list_of(plan.remove), human_bytes(plan.bytes_freed)));
    return ExitCode::done;
  }
  prune(plan, [&lock] { lock->confirm(); });
  print_line(fmt::format("removed: {} ({} freed)", list_of(plan.remove), human_bytes(plan.bytes_freed)));
  return ExitCode::done;
}

}  // namespace

void add_checkpoint_prune(Verbs& verbs) {
  auto flags = std::make_shared<PruneFlags>();
  CLI::App& app =
      verbs.add("checkpoint prune", "Remove older checkpoints of a run, once the rest is read whole",
                "Training", [flags] { return run(*flags); });
  app.add_option("RUN", flags->run, "The run")->required();
  app.add_option("--keep", flags->options.keep, "The newest so many whole checkpoints stay")->required();
  app.add_option("--every", flags->options.every, "Those of a step that is a multiple of this stay too");
  app.add_option("--best", flags->options.best, "As many with the lowest validation loss stay too");
  app.add_flag("--dry-run", flags->dry_run, "Only say what would go");
}

}  // namespace toroid::launch
