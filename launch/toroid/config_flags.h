// The flags of every verb that reads a config: --config FILE [--set path=value]...
#pragma once

#include <string>
#include <vector>

#include "train/config/load.h"

namespace CLI {
class App;
}

namespace toroid::launch {

struct ConfigFlags {
  std::string file;
  std::vector<std::string> overrides;
};

// `flags` outlives the parse: keep it in the shared_ptr that the verb's function captures.
void add_config_flags(CLI::App& app, ConfigFlags& flags);

// Reads, overrides, resolves and validates. UserError with file, line and column, or the relation that
// failed.
config::Resolved load_config(const ConfigFlags& flags);

// UserError unless the config says what text to train on, as a recipe for a published shape does not.
void need_data(const config::RunConfig& run);

}  // namespace toroid::launch
