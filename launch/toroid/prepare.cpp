// toroid prepare: text in, tokenizer and token shards out.
#include "data/prepare/prepare.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "core/base/text.h"
#include "launch/toroid/config_flags.h"
#include "launch/toroid/verb.h"

namespace toroid::launch {
namespace {

struct PrepareFlags {
  ConfigFlags config;
  PrepareOptions options;
};

ExitCode run(const PrepareFlags& flags) {
  const config::Resolved config = load_config(flags.config);
  need_data(config.run);
  const config::DataConfig& data = config.run.data();
  const Prepared prepared = prepare(data, builtin_sources(), builtin_filters(), flags.options);
  std::fputs(prepared_table(prepared.manifest).c_str(), stdout);
  const std::string directory = printable(data.directory(), 4096);
  if (prepared.was_there) {
    std::printf("%s is up to date: nothing to do (--again makes it anew)\n", directory.c_str());
  } else {
    std::printf("prepared data is in %s: tokenizer of %s pieces, token shards, manifest.json\n",
                directory.c_str(), with_commas(prepared.manifest.vocab).c_str());
  }
  return ExitCode::done;
}

}  // namespace

void add_prepare(Verbs& verbs) {
  auto flags = std::make_shared<PrepareFlags>();
  CLI::App& app = verbs.add("prepare", "Read text, train or load the tokenizer, write token shards", "Data",
                            [flags] { return run(*flags); });
  add_config_flags(app, flags->config);
  app.add_flag("--again", flags->options.again, "Make the data anew even where nothing has changed");
}

}  // namespace toroid::launch
