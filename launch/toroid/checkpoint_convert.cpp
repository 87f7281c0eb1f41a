// toroid checkpoint convert: a checkpoint for another number of ranks, in another type, or as plain
// safetensors.
#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "core/base/log.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "core/model/decoder_config.h"
#include "launch/toroid/checkpoint_json.h"
#include "launch/toroid/verb.h"
#include "parallel/zero/unit.h"
#include "train/checkpoint/convert.h"
#include "train/checkpoint/inventory.h"
#include "train/config/load.h"

namespace toroid::launch {
namespace {

struct ConvertFlags {
  std::string path, out;
  int64_t ranks = 0;  // 0: as many as wrote it
  std::optional<ElementType> type;
  std::vector<std::string> parts;
  bool plain = false;
  uint64_t shard_bytes = 5'000'000'000;
};

// As ZeRO cuts the model's units over a data axis of `ranks`; tensors that the config does not know are cut
// evenly.
TensorCut tensor_cut_of(const CheckpointState& state, const std::string& origin, int ranks) {
  TensorCut even = even_cut(ranks);
  std::map<std::string, std::vector<std::vector<ElementRun>>> runs;
  try {
    const config::Resolved resolved = config::load_text(state.config, origin);
    for (UnitSpec& spec : decoder_units(decoder_config(resolved.run.model()))) {
      const Unit unit = make_unit(std::move(spec), Place{}, ranks);
      const int64_t shard = unit.flat_elements / ranks;
      for (size_t t = 0; t < unit.spec.tensors.size(); ++t) {
        auto& of = runs[unit.spec.tensors[t].name];
        for (int64_t rank = 0; rank < ranks; ++rank) {
          auto& mine = of.emplace_back();
          for (const Piece& piece : unit.pieces(t, rank * shard, (rank + 1) * shard)) {
            mine.push_back({piece.global, piece.global + piece.elements});
          }
        }
      }
    }
  } catch (const UserError& error) {
    log::warn("tensors are cut evenly, since the config cannot be read: {}", error.what());
    return even;
  }
  return [runs = std::move(runs), even](const CheckpointTensor& tensor) {
    const auto found = runs.find(tensor.name);
    if (found == runs.end()) return even(tensor);
    int64_t elements = 0;
    for (const auto& rank : found->second) {
      for (const ElementRun& run : rank) elements += run.last - run.first;
    }
    return elements == tensor.elements ? found->second : even(tensor);
  };
}

// What else a run needs to be resumed or generated with.
void copy_tokenizer(const Path& from, const Path& to) {
  constexpr auto kWhole = std::filesystem::copy_options::recursive;
  for (const char* name : {"tokenizer.model", "huggingface"}) {
    std::error_code error;
    if (!is_present(from / name)) continue;
    std::filesystem::copy(from / name, to / name, kWhole, error);
    if (error) throw SystemError("cannot copy " + in_quotes((from / name).string()), error.value());
  }
}

ExitCode run(const ConvertFlags& flags) {
  const Path step = newest_step(flags.path);
  if (flags.plain) {
    if (flags.parts.size() > 1) throw UserError("--safetensors writes one --part, not several");
    if (flags.ranks > 0) throw UserError("--safetensors writes whole tensors: leave out --ranks");
    PlainConversion plain{.from = step, .out = flags.out, .type = flags.type};
    if (!flags.parts.empty()) plain.part = flags.parts[0];
    plain.shard_bytes = static_cast<int64_t>(flags.shard_bytes);
    const int64_t elements = convert_to_plain(plain);
    print_line("wrote " + with_commas(elements) + " elements of " + printable(plain.part) + " to " +
               in_quotes(flags.out));
    return ExitCode::done;
  }
  if (!flags.parts.empty() && !flags.type)
    throw UserError("--part says whose type changes: give --dtype too");
  const StepCheck from = check_step(step, {.depth = Depth::lengths});
  if (!from.whole()) {
    throw UserError(in_quotes(step.string()) + " is damaged: " + to_text(from.faults.front()));
  }
  check_range("--ranks", flags.ranks, int64_t{0}, int64_t{1} << 16);
  const int ranks = flags.ranks > 0 ? static_cast<int>(flags.ranks) : from.manifest->world_size;
  StepConversion conversion;
  conversion.from = step;
  conversion.out = flags.out;
  conversion.ranks = ranks;
  conversion.cut =
      tensor_cut_of(from.manifest->state, (step / Manifest::kName).string() + " (config)", ranks);
  conversion.parts = flags.parts;
  conversion.type = flags.type;
  const Path written = convert_step(conversion);
  copy_tokenizer(run_of_checkpoint(step), flags.out);
  print_line("wrote " + in_quotes(written.string()) + " for " + std::to_string(ranks) +
             (ranks == 1 ? " rank" : " ranks"));
  return ExitCode::done;
}

}  // namespace

void add_checkpoint_convert(Verbs& verbs) {
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App& app = verbs.add("checkpoint convert",
                            "Write a checkpoint for other ranks, in another type or as plain safetensors",
                            "Training", [flags] { return run(*flags); });
  app.add_option("RUN", flags->path, "A run (its newest checkpoint) or one checkpoints/step-N")->required();
  app.add_option("--out", flags->out,
                 "Directory to create: a run that holds the step, or with --safetensors a model's")
      ->required()
      ->type_name("DIR");
  app.add_option("--ranks", flags->ranks,
                 "Cut as a save on so many ranks (a data axis) cuts; as it was by default");
  const std::map<std::string, ElementType> types = {{"F32", ElementType::f32}, {"BF16", ElementType::bf16}};
  app.add_option_function<ElementType>(
         "--dtype", [flags](ElementType type) { flags->type = type; }, "F32 or BF16, rounded to nearest")
      ->transform(CLI::CheckedTransformer(types, CLI::ignore_case))
      ->type_name("TYPE");
  app.add_option("--part", flags->parts,
                 "The part, such as master or ema, whose type changes (all by default; may be repeated), or "
                 "that --safetensors writes (master by default)");
  app.add_flag("--safetensors", flags->plain, "Write whole tensors by their names, and no run");
  app.add_option("--shard-size", flags->shard_bytes, "With --safetensors the largest file (5GB)")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 60))
      ->type_name("SIZE");
}

}  // namespace toroid::launch
