#include "launch/toroid/train_flags.h"

#include <CLI/CLI.hpp>

#include "core/base/error.h"
#include "core/base/text.h"
#include "train/checkpoint/stored_config.h"

namespace toroid::launch {
namespace {

constexpr const char* kInstead = "Instead of training";
constexpr const char* kReports = "Reports";

// The list: what is not a path is on or off.
struct PathFlag {
  const char* name;
  std::string TrainFlags::*value;
  const char* type;
  const char* help;
  const char* group;  // nullptr: CLI11's own
};
constexpr PathFlag kPaths[] = {
    {"--out", &TrainFlags::out, "DIR", "Run directory to write to; runs/<name of the config> if not given",
     nullptr},
    {"--resume", &TrainFlags::resume, "DIR",
     "Go on from a run (its newest checkpoint) or from one checkpoint (its step-N); without --config, with "
     "its config",
     nullptr},
    {"--trace", &TrainFlags::trace, "FILE",
     "Record the steps that train.trace says to FILE, for ui.perfetto.dev: a row for each rank and stream",
     kReports},
};
struct Switch {
  const char* name;
  bool TrainFlags::*value;
  const char* help;
  const char* group;
};
constexpr Switch kSwitches[] = {
    {"--again", &TrainFlags::again, "Start from step 0 and replace the run that --out holds", nullptr},
    {"--allow-changes", &TrainFlags::allow_changes,
     "Resume although the config differs from the stored one in what decides results", nullptr},
    {"--print-config", &TrainFlags::print_config,
     "Print the resolved config, each value with its origin, and do not train", kInstead},
    {"--check", &TrainFlags::check,
     "Say whether the config is valid, warn of what may not be meant, and do not train", kInstead},
    {"--dry-run", &TrainFlags::dry_run,
     "Print units, operators and predicted memory of a step that is recorded, not run", kInstead},
    {"--record", &TrainFlags::record, "Print the operators of the first step while it runs", kReports},
};

void put_into(CLI::Option* option, const char* group) {
  if (group != nullptr) option->group(group);
}

}  // namespace

void add_train_flags(CLI::App& app, TrainFlags& flags) {
  add_config_flags(app, flags.config);
  for (const PathFlag& flag : kPaths) {
    put_into(app.add_option(flag.name, flags.*flag.value, flag.help)->type_name(flag.type), flag.group);
  }
  for (const Switch& flag : kSwitches) {
    put_into(app.add_flag(flag.name, flags.*flag.value, flag.help), flag.group);
  }
}

std::vector<std::string> train_arguments(const TrainFlags& flags) {
  std::vector<std::string> out{"train"};
  if (!flags.config.file.empty()) out.insert(out.end(), {"--config", flags.config.file});
  // One word each: a value that begins with a dash is then no flag.
  for (const std::string& set : flags.config.overrides) out.push_back("--set=" + set);
  for (const PathFlag& flag : kPaths) {
    if (!(flags.*flag.value).empty()) out.insert(out.end(), {flag.name, flags.*flag.value});
  }
  for (const Switch& flag : kSwitches) {
    if (flags.*flag.value) out.emplace_back(flag.name);
  }
  return out;
}

void check_train_flags(const TrainFlags& flags) {
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

void need_trainable(const config::RunConfig& run, const TrainFlags& flags) {
  if (run.device() == config::RunConfig::SIM) {
    throw UserError("device is SIM, which computes nothing; use `toroid simulate --config " +
                    printable(flags.config.file) + "`, or --set device=CPU to train here");
  }
  if (!flags.dry_run) need_data(run);
}

config::Resolved load_train_config(const TrainFlags& flags) {
  if (!flags.config.file.empty() || flags.resume.empty()) return load_config(flags.config);
  const StoredConfig stored = stored_config(flags.resume);
  return config::load_text(stored.text, stored.origin, flags.config.overrides);
}

}  // namespace toroid::launch
