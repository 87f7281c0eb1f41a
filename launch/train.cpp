#include <CLI/CLI.hpp>
#include <iostream>

#include "core/base/text.h"
#include "core/model/check.h"
#include "launch/config_flags.h"
#include "launch/verb.h"
#include "train/collective_table.h"
#include "train/plugins.h"
#include "train/run.h"
#include "train/simulate/host_chip.h"
#include "train/warnings.h"

namespace toroid::launch {
namespace {

struct Flags {
  ConfigFlags config;
  std::string out, resume, trace;
  bool print_config = false, check = false, dry_run = false, record = false;
  bool again = false, allow_changes = false;
};

// Without --config a run goes on with the config that was stored in it.
config::Resolved load_train_config(const Flags& flags) {
  if (!flags.config.file.empty() || flags.resume.empty()) return load_config(flags.config);
  ConfigFlags stored = flags.config;
  stored.file = (Path(flags.resume) / "config.textproto").string();
  if (!std::filesystem::exists(stored.file)) {
    throw UserError("--resume " + printable(flags.resume) + ": there is no " + printable(stored.file) +
                    "; give the directory of a run or of one of its checkpoints, or --config FILE as well");
  }
  return load_config(stored);
}

void check_flags(const Flags& flags) {
  if (flags.again && !flags.resume.empty()) {
    throw UserError("--again starts a run from step 0 and --resume goes on with one; give one of them");
  }
  if (flags.dry_run && flags.record) {
    throw UserError("--dry-run records a step that is not run and --record one that is; give one of them");
  }
  if (!flags.trace.empty() && (flags.dry_run || flags.record)) {
    throw UserError("--trace records steps of a run, and --dry-run and --record make none; leave one out");
  }
}

void print_summary(const std::string& name, const config::RunConfig& run) {
  const int64_t step_tokens = run.batch().global_sequences() * run.batch().tokens_per_sequence();
  std::cout << printable(name) << ": valid; " << with_commas(model::count_parameters(run.model()).total())
            << " parameters, " << with_commas(run.train().steps()) << " steps of " << with_commas(step_tokens)
            << " tokens\n";
}

ExitCode train_verb(const Flags& flags, const train::Plugins& plugins) {
  check_flags(flags);
  config::Resolved resolved = load_train_config(flags);
  train::add_collective_table(resolved);
  plugins.check(resolved.run);
  const std::vector<std::string> warnings = train::warnings(resolved, plugins);
  if (flags.print_config) std::cout << config::to_text(resolved);
  if (flags.check) print_summary(flags.config.file.empty() ? flags.resume : flags.config.file, resolved.run);
  if (flags.print_config || flags.check) {
    // Not among what is printed, which may be kept as a config.
    for (const std::string& warning : warnings) std::cerr << "toroid: warning: " << warning << "\n";
    return ExitCode::done;
  }

  if (resolved.run.device() == config::RunConfig::SIM) {
    throw UserError("device is SIM, which computes nothing; use `toroid simulate --config " +
                    printable(flags.config.file) + "`, or --set device=CPU to train here");
  }
  if (!flags.dry_run) need_data(resolved.run);
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
  options.predict = [&](const config::RunConfig& run) { return train::predict_on_host(run, plugins); };
  if (options.out.empty() && options.resume.empty())
    options.out = Path("runs") / Path(flags.config.file).stem();
  return train::run(options, plugins);
}

}  // namespace

void add_train(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<Flags>();
  CLI::App& app =
      verbs.add("train", "Train a model: toroid train --config FILE [--set PATH=VALUE]... [--out DIR]",
                "Training", [flags, &plugins] { return train_verb(*flags, plugins); });
  add_config_flags(app, flags->config);
  app.add_option("--out", flags->out, "Run directory to write to; runs/<name of the config> if not given")
      ->type_name("DIR");
  app.add_option(
         "--resume", flags->resume,
         "Go on from a run (its newest checkpoint) or from one checkpoint; without --config, with its config")
      ->type_name("DIR");
  app.add_flag("--again", flags->again, "Start from step 0 and replace the run that --out holds");
  app.add_flag("--allow-changes", flags->allow_changes,
               "Resume although the config differs from the stored one in what decides results");
  app.add_flag("--print-config", flags->print_config,
               "Print the resolved config, each value with its origin, and do not train")
      ->group("Instead of training");
  app.add_flag("--check", flags->check,
               "Say whether the config is valid, warn of what may not be meant, and do not train")
      ->group("Instead of training");
  app.add_flag("--dry-run", flags->dry_run,
               "Print units, operators and predicted memory of a step that is recorded, not run")
      ->group("Instead of training");
  app.add_flag("--record", flags->record, "Print the operators of the first step while it runs")
      ->group("Reports");
  app.add_option("--trace", flags->trace,
                 "Record the steps that train.trace says to FILE, for ui.perfetto.dev: a row for each rank "
                 "and stream")
      ->type_name("FILE")
      ->group("Reports");
}

}  // namespace toroid::launch
