#include <CLI/CLI.hpp>
#include <iostream>

#include "core/base/text.h"
#include "core/model/check.h"
#include "launch/toroid/train_verb.h"
#include "launch/toroid/verb.h"
#include "simulate/fit/machine_chip.h"
#include "train/config/batch_plan.h"
#include "train/engine/plugins.h"
#include "train/huggingface/inheritance.h"
#include "train/loop/run.h"
#include "train/machine/collective_table.h"
#include "train/ranks/bf16_products.h"
#include "train/report/warnings.h"

namespace toroid::launch {
namespace {

void print_summary(const std::string& name, const config::RunConfig& run) {
  const int64_t step_tokens = run.batch().global_sequences() * run.batch().tokens_per_sequence();
  const train::BatchPlan plan(run.batch());
  std::cout << printable(name) << ": valid; " << with_commas(model::count_parameters(run.model()).total())
            << " parameters, " << with_commas(run.train().steps()) << " steps of " << with_commas(step_tokens)
            << " tokens" << (plan.ramps() ? " (batch.ramp: " + to_text(plan) + ")" : "") << "\n";
}

}  // namespace

ExitCode train_verb(const TrainFlags& flags, const train::Plugins& plugins) {
  check_train_flags(flags);
  config::Resolved resolved = load_train_config(flags);
  train::add_collective_table(resolved);
  huggingface::inherit_token_ids(resolved, flags.resume);
  plugins.check(resolved.run);
  const std::vector<std::string> warnings = train::warnings(resolved, plugins);
  // Ranks that train settle it with each other.
  if (flags.print_config || flags.check || flags.dry_run) train::settle_bf16_products(resolved);
  if (flags.print_config) std::cout << config::to_text(resolved);
  if (flags.check) print_summary(flags.config.file.empty() ? flags.resume : flags.config.file, resolved.run);
  if (flags.print_config || flags.check) {
    // Not among what is printed, which may be kept as a config.
    for (const std::string& warning : warnings) std::cerr << "toroid: warning: " << warning << "\n";
    return ExitCode::done;
  }

  need_trainable(resolved.run, flags);
  train::TrainOptions options;
  options.config = resolved.run;
  options.config_text = config::to_text(resolved);
  options.out = flags.out;
  options.resume = flags.resume;
  options.trace = flags.trace;
  options.warnings = warnings;
  options.again = flags.again;
  options.allow_changes = flags.allow_changes;
  options.dry_run = flags.dry_run;
  options.record = flags.record;
  options.predict = [&](const config::RunConfig& run) {
    return train::predict_on_this_machine(run, plugins);
  };
  if (options.out.empty() && options.resume.empty())
    options.out = Path("runs") / Path(flags.config.file).stem();
  return train::run(options, plugins);
}

void add_train(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<TrainFlags>();
  CLI::App& app =
      verbs.add("train", "Train a model: toroid train --config FILE [--set PATH=VALUE]... [--out DIR]",
                "Training", [flags, &plugins] { return train_verb(*flags, plugins); });
  add_train_flags(app, *flags);
}

}  // namespace toroid::launch
