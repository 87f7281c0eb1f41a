// toroid export: a checkpoint becomes a directory that transformers opens.
#include <CLI/CLI.hpp>
#include <iostream>
#include <map>

#include "core/base/text.h"
#include "launch/toroid/verb.h"
#include "train/huggingface/transfer.h"

namespace toroid::launch {
namespace {

struct ExportFlags {
  std::string checkpoint, out;
  ElementType type = ElementType::f32;
  uint64_t shard_bytes = 5'000'000'000;
  bool average = false;
};

ExitCode run(const ExportFlags& flags) {
  const int64_t parameters =
      huggingface::export_model({.checkpoint = flags.checkpoint,
                                 .out = flags.out,
                                 .type = flags.type,
                                 .shard_bytes = static_cast<int64_t>(flags.shard_bytes),
                                 .average = flags.average});
  std::cout << "exported " << with_commas(parameters) << " parameters to " << in_quotes(flags.out) << '\n';
  return ExitCode::done;
}

}  // namespace

void add_export(Verbs& verbs) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App& app = verbs.add("export", "Write a checkpoint as a Hugging Face model directory", "Weights",
                            [flags] { return run(*flags); });
  app.add_option("--checkpoint", flags->checkpoint,
                 "A run (its newest whole checkpoint) or one checkpoints/step-N")
      ->required()
      ->type_name("DIR");
  app.add_option("--out", flags->out, "Directory to create")->required()->type_name("HF_DIR");
  const std::map<std::string, ElementType> types = {
      {"F32", ElementType::f32}, {"BF16", ElementType::bf16}, {"F16", ElementType::f16}};
  app.add_option("--dtype", flags->type, "F32 (the weights as they are, the default), BF16 or F16")
      ->transform(CLI::CheckedTransformer(types, CLI::ignore_case))
      ->type_name("TYPE");
  app.add_option("--shard-size", flags->shard_bytes, "Largest file, such as 500MB or 5GB (the default)")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 60))
      ->type_name("SIZE");
  app.add_flag("--ema", flags->average, "Export the average of the weights (EMA) instead of the weights");
}

}  // namespace toroid::launch
