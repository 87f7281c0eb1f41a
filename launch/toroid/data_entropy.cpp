// toroid data entropy: what counting alone makes of the validation tokens.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/text.h"
#include "data/batch/dataset.h"
#include "data/ngram/ngram.h"
#include "data/prepare/prepare.h"
#include "launch/toroid/config_flags.h"
#include "launch/toroid/verb.h"

namespace toroid::launch {
namespace {

struct DataEntropyFlags {
  ConfigFlags config;
  bool json = false;
};

ExitCode run(const DataEntropyFlags& flags) {
  const config::RunConfig run = load_config(flags.config).run;
  need_data(run);
  check_prepared(run.data());
  std::vector<std::string> names;
  for (const auto& source : run.data().source()) names.push_back(source.name());
  const NgramEntropy entropy = prepared_entropy(Path(run.data().directory()), names);
  if (flags.json) {
    const nlohmann::ordered_json json = {{"unigram_nats", entropy.unigram},
                                         {"bigram_nats", entropy.bigram},
                                         {"training_tokens", entropy.training_tokens},
                                         {"validation_tokens", entropy.validation_tokens}};
    std::printf("%s\n", json.dump().c_str());
  } else {
    std::printf("%s validation tokens under models of all %s training tokens\n",
                with_commas(entropy.validation_tokens).c_str(), with_commas(entropy.training_tokens).c_str());
    std::printf("unigram (add one):                 %.3f nats a token\n", entropy.unigram);
    std::printf("bigram (interpolated Kneser-Ney):  %.3f nats a token\n", entropy.bigram);
  }
  return ExitCode::done;
}

}  // namespace

void add_data_entropy(Verbs& verbs) {
  auto flags = std::make_shared<DataEntropyFlags>();
  CLI::App& app =
      verbs.add("data entropy", "Entropy of the validation tokens under unigram and bigram models", "Data",
                [flags] { return run(*flags); });
  add_config_flags(app, flags->config);
  app.add_flag("--json", flags->json, "One line of JSON");
}

}  // namespace toroid::launch
