// The flags of a training run, one list for `toroid train`, which runs one rank, and `toroid launch`, which
// hands them to all ranks that it starts.
#pragma once

#include <string>
#include <vector>

#include "launch/toroid/config_flags.h"

namespace toroid::launch {

struct TrainFlags {
  ConfigFlags config;
  std::string out, resume, trace;
  bool again = false, allow_changes = false, record = false;
  bool print_config = false, check = false, dry_run = false;

  // False where something is printed and nothing trained, which takes no ranks.
  bool trains() const { return !print_config && !check && !dry_run && !record; }
};

// Adds all of them. `flags` outlives the parse: keep it in the shared_ptr that the verb's function captures.
void add_train_flags(CLI::App& app, TrainFlags& flags);

// As they would be typed: `toroid train` with these words has the same flags.
std::vector<std::string> train_arguments(const TrainFlags& flags);

// UserError where two of them do not go together.
void check_train_flags(const TrainFlags& flags);

// --config with its overrides; without it, the config stored where --resume points: in a run's directory, or
// in a checkpoint's manifest. UserError where neither says what to train.
config::Resolved load_train_config(const TrainFlags& flags);

// UserError where nothing can be trained with it: on a chip that computes nothing, or without data.
void need_trainable(const config::RunConfig& run, const TrainFlags& flags);

}  // namespace toroid::launch
