// toroid data show: the sequences of a batch with the documents they were cut from.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <iostream>
#include <memory>

#include "core/base/range.h"
#include "core/base/text.h"
#include "data/batch/dataset.h"
#include "data/prepare/prepare.h"
#include "launch/toroid/config_flags.h"
#include "launch/toroid/verb.h"
#include "train/config/batch_plan.h"

namespace toroid::launch {
namespace {

struct DataShowFlags {
  ConfigFlags config;
  int64_t step = 0;
  int64_t at = -1;         // a global index; -1: what `step` begins with
  int64_t sequences = 0;   // 0: all
  int64_t characters = 0;  // 0: all
};

// Text of ids with the control pieces by name, since bos and eos are what a reader looks for.
std::string text_of(const Tokenizer& tokenizer, std::span<const int32_t> ids) {
  std::string text;
  for (const int32_t id : ids) {
    if (tokenizer.type(id) == PieceType::control) {
      text += tokenizer.piece(id);
    } else {
      tokenizer.append_text(id, text);
    }
  }
  return text;
}

// Document text comes from outside: escaped, and every line set in.
void print_text(const std::string& text, int64_t characters) {
  std::string_view shown = text;
  const bool cut = characters > 0 && static_cast<int64_t>(text.size()) > characters;
  if (cut) shown = shown.substr(0, static_cast<size_t>(characters));
  std::string escaped = printable_lines(shown);
  if (cut) escaped += " ...";
  std::cout << "    | ";
  for (const char c : escaped) {
    std::cout << c;
    if (c == '\n') std::cout << "    | ";
  }
  std::cout << '\n';
}

std::string hex(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016" PRIx64, value);
  return text;
}

// How many sequences were taken before the one that is shown first.
int64_t position_of(const DataShowFlags& flags, const config::RunConfig& run, const train::BatchPlan& plan) {
  const SkipList skips = skip_list(run.data());
  if (flags.at < 0) {
    check_range("--step", flags.step, int64_t{0}, SkipList::kMostIndex / run.batch().global_sequences());
    return plan.taken_before(flags.step);
  }
  check_range("--at", flags.at, int64_t{0}, SkipList::kMostIndex);
  if (const auto range = skips.range_of(flags.at)) {
    throw UserError("--at is " + std::to_string(flags.at) +
                    ", but data.skip leaves out the global sequences " + toroid::to_text({*range}) +
                    "; give another one, or take the range out");
  }
  return skips.position(flags.at);
}

ExitCode run(const DataShowFlags& flags) {
  const config::RunConfig run = load_config(flags.config).run;
  need_data(run);
  const train::BatchPlan plan(run.batch());
  const int64_t position = position_of(flags, run, plan);
  const int64_t count = flags.at < 0 ? plan.sequences(flags.step) : plan.most();
  const BatchShape shape{run.batch().tokens_per_sequence(), static_cast<int32_t>(run.model().vocab()),
                         run.train().seed()};
  const auto source = open_dataset(run.data(), shape);
  const Tokenizer tokenizer = open_tokenizer(run.data());
  const Batch batch = source->batch(position, count);
  const std::vector<SequenceProvenance> provenance = source->provenance(position, batch.sequences);

  std::cout << (flags.at < 0 ? "step " + std::to_string(flags.step) : "from " + std::to_string(flags.at))
            << ": " << batch.sequences << " sequences of " << batch.tokens << " tokens, "
            << with_commas(batch.target_count) << " targets, " << with_commas(batch.target_bytes)
            << " bytes of text\n";
  if (plan.ramps()) std::cout << "batch.ramp: " << to_text(plan) << "\n";
  const int64_t shown = flags.sequences > 0 ? std::min(flags.sequences, batch.sequences) : batch.sequences;
  for (int64_t i = 0; i < shown; ++i) {
    const SequenceProvenance& from = provenance[static_cast<size_t>(i)];
    std::cout << "\nsequence " << i << ": global index " << from.global_index << ", source " << from.source
              << ", epoch " << from.epoch << ", sequence " << from.sequence << " of the source\n";
    for (const DocumentSpan& span : from.documents) {
      std::cout << "  tokens " << span.first_token << " to " << span.first_token + span.tokens - 1
                << ": document " << span.document << " '" << printable(span.name) << "' from its token "
                << span.document_token << ", hash " << hex(span.hash) << "\n";
      const auto first = static_cast<size_t>(i * batch.tokens + span.first_token);
      print_text(text_of(tokenizer, std::span(batch.ids).subspan(first, static_cast<size_t>(span.tokens))),
                 flags.characters);
    }
  }
  if (shown < batch.sequences) std::cout << "\n... and " << batch.sequences - shown << " more sequences\n";
  return ExitCode::done;
}

}  // namespace

void add_data_show(Verbs& verbs) {
  auto flags = std::make_shared<DataShowFlags>();
  CLI::App& app =
      verbs.add("data show", "Print a batch with its documents", "Data", [flags] { return run(*flags); });
  add_config_flags(app, flags->config);
  CLI::Option* step =
      app.add_option("--step", flags->step,
                     "Optimizer step, from 0, of a run that takes this batch at every step, or by its ramp")
          ->capture_default_str();
  app.add_option("--at", flags->at,
                 "Global index of the first sequence, such as a checkpoint's data.next_sequence")
      ->type_name("SEQUENCE")
      ->check(CLI::NonNegativeNumber)
      ->excludes(step);
  app.add_option("--sequences", flags->sequences, "Print this many sequences (0: all)")
      ->capture_default_str();
  app.add_option("--bytes", flags->characters,
                 "Print this much of each document (0: all that is in the batch)")
      ->capture_default_str();
}

}  // namespace toroid::launch
