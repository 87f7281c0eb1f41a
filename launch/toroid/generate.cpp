#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "core/base/log.h"
#include "core/base/text.h"
#include "data/batch/dataset.h"
#include "launch/toroid/verb.h"
#include "train/config/load.h"
#include "train/engine/engine.h"
#include "train/generate/generator.h"
#include "train/generate/sampler.h"
#include "train/huggingface/token_ids.h"

namespace toroid::launch {
namespace {

struct GenerateFlags {
  std::string checkpoint, prompt, tokenizer;
  std::vector<std::string> overrides;
  train::SampleOptions sample;
  int64_t tokens = 128;
  bool greedy = false, no_cache = false, average = false, no_bos = false;
};

// Whole characters as they come, control characters escaped: a character may arrive in several byte pieces.
class TextStream {
 public:
  void add(const Tokenizer& tokenizer, int32_t id) {
    tokenizer.append_text(id, pending_);
    size_t whole = pending_.size();
    for (size_t back = 1; back <= 3 && back <= pending_.size(); ++back) {
      const auto byte = static_cast<unsigned char>(pending_[pending_.size() - back]);
      if ((byte & 0xC0u) == 0x80u) continue;
      const size_t need = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
      if (back < need) whole = pending_.size() - back;
      break;
    }
    flush(whole);
  }
  void finish() {
    flush(pending_.size());
    std::cout << std::endl;
  }

 private:
  void flush(size_t bytes) {
    std::cout << printable_lines(std::string_view(pending_).substr(0, bytes)) << std::flush;
    pending_.erase(0, bytes);
  }
  std::string pending_;
};

Tokenizer find_tokenizer(const GenerateFlags& flags, const config::RunConfig& run) {
  if (!flags.tokenizer.empty()) return Tokenizer::load(flags.tokenizer);
  const Path beside = run_of_checkpoint(flags.checkpoint) / "tokenizer.model";
  if (is_present(beside)) return Tokenizer::load(beside);
  return open_tokenizer(run.data());
}

ExitCode generate(const GenerateFlags& flags, const train::Plugins& plugins) {
  train::SampleOptions sample = flags.sample;
  if (flags.greedy) sample.temperature = 0;
  train::check(sample);
  if (flags.tokens < 1 || flags.tokens > 1'000'000) {
    throw UserError("--tokens is " + std::to_string(flags.tokens) + ", but must be between 1 and 1,000,000");
  }
  CheckpointReader checkpoint(flags.checkpoint, Verify::headers);
  const config::RunConfig run =
      config::load_text(checkpoint.state().config, "the config of " + checkpoint.directory().string(),
                        flags.overrides)
          .run;
  const Tokenizer tokenizer = find_tokenizer(flags, run);
  Encoder encoder(tokenizer);
  std::vector<int32_t> ids;
  if (!flags.no_bos) {
    if (tokenizer.special().bos < 0) throw UserError("the tokenizer has no <bos>; pass --no-bos");
    ids.push_back(tokenizer.special().bos);
  }
  encoder.encode(flags.prompt, ids);
  if (ids.empty()) throw UserError("there is nothing to continue: --prompt is empty and --no-bos is given");

  const auto device =
      train::alone(plugins.device(run), train::compute_threads(run.train()), cpu::fastest_products());
  train::Generator generator(*device, run);
  generator.load(checkpoint, flags.average ? "ema" : "master");
  generator.start(static_cast<int64_t>(ids.size()) + flags.tokens);
  std::cout << printable_lines(flags.prompt) << std::flush;
  TextStream text;
  const std::vector<int64_t> ends = huggingface::token_ids(run.model(), &tokenizer).eos;
  std::span<const int32_t> fresh = ids;
  for (int64_t i = 0; i < flags.tokens; ++i) {
    std::vector<float> logits;
    if (flags.no_cache) {
      logits = generator.logits(ids);
      logits.erase(logits.begin(), logits.end() - generator.config().vocab);
    } else {
      logits = generator.extend(fresh);
    }
    const int32_t next = train::sample(logits, sample, static_cast<uint64_t>(i));
    if (std::find(ends.begin(), ends.end(), next) != ends.end() || next >= tokenizer.vocab_size()) break;
    ids.push_back(next);
    fresh = std::span(ids).last(1);
    text.add(tokenizer, next);
  }
  text.finish();
  return ExitCode::done;
}

}  // namespace

void add_generate(Verbs& verbs, const train::Plugins& plugins) {
  const auto flags = std::make_shared<GenerateFlags>();
  CLI::App& app = verbs.add("generate", "Continue a prompt: toroid generate --checkpoint DIR --prompt TEXT",
                            "Use", [flags, &plugins] { return generate(*flags, plugins); });
  app.add_option("--checkpoint", flags->checkpoint, "A run (its newest checkpoint) or a step of one")
      ->required()
      ->type_name("DIR");
  app.add_option("--prompt", flags->prompt, "Text to continue")->required()->type_name("TEXT");
  app.add_option("--tokens", flags->tokens, "Most tokens to write; 128 if not given")->type_name("N");
  app.add_option("--temperature", flags->sample.temperature, "Of the softmax; 0 is greedy, 1 if not given");
  app.add_option("--top-k", flags->sample.top_k, "Sample from the K likeliest tokens; all if not given")
      ->type_name("K");
  app.add_option("--top-p", flags->sample.top_p,
                 "Sample from the likeliest tokens that reach this probability; all if not given");
  app.add_option("--seed", flags->sample.seed, "Of the draws; 1 if not given");
  app.add_flag("--greedy", flags->greedy, "The likeliest token every time");
  app.add_flag("--average", flags->average, "Use the moving average of the weights");
  app.add_flag("--no-cache", flags->no_cache, "Compute every token anew: slow, for comparisons");
  app.add_flag("--no-bos", flags->no_bos, "Do not start with <bos>");
  app.add_option("--tokenizer", flags->tokenizer, "SentencePiece model, instead of the run's")
      ->type_name("FILE");
  app.add_option("--set", flags->overrides, "Override a value of the stored config")->type_name("PATH=VALUE");
}

}  // namespace toroid::launch
