// toroid import: a Hugging Face directory becomes a run that holds step 0.
#include <CLI/CLI.hpp>
#include <iostream>

#include "core/base/text.h"
#include "launch/toroid/verb.h"
#include "train/huggingface/transfer.h"

namespace toroid::launch {
namespace {

struct ImportFlags {
  std::string model, out;
};

ExitCode run(const ImportFlags& flags) {
  const int64_t parameters = huggingface::import_model({.model = flags.model, .out = flags.out});
  std::cout << "imported " << with_commas(parameters) << " parameters into " << in_quotes(flags.out)
            << ", step 0\n";
  return ExitCode::done;
}

}  // namespace

void add_import(Verbs& verbs) {
  auto flags = std::make_shared<ImportFlags>();
  CLI::App& app = verbs.add("import", "Turn a Hugging Face model directory into a run at step 0", "Weights",
                            [flags] { return run(*flags); });
  app.add_option("model", flags->model,
                 "Directory with config.json and model.safetensors (or shards and their index)")
      ->required()
      ->type_name("HF_DIR");
  app.add_option("--out", flags->out, "Run directory to create")->required()->type_name("DIR");
}

}  // namespace toroid::launch
