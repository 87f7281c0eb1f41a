#include "launch/toroid/config_flags.h"

#include <CLI/CLI.hpp>

#include "core/base/error.h"

namespace toroid::launch {

void add_config_flags(CLI::App& app, ConfigFlags& flags) {
  app.add_option("--config", flags.file, "Recipe in protobuf text format (docs/config.md)")
      ->type_name("FILE");
  app.add_option("--set", flags.overrides, "Override a value, as in --set train.steps=100; may be repeated")
      ->type_name("PATH=VALUE")
      ->allow_extra_args(false);
}

config::Resolved load_config(const ConfigFlags& flags) {
  if (flags.file.empty())
    throw UserError("no config: give --config FILE, for example configs/quickstart.textproto");
  return config::load(flags.file, flags.overrides);
}

void need_data(const config::RunConfig& run) {
  if (run.has_data()) return;
  throw UserError(
      "the config has no data section; add one as in configs/quickstart.textproto (docs/config.md)");
}

}  // namespace toroid::launch
