#include "core/base/error.h"
#include "core/base/random.h"
#include "data/batch/batch.h"
#include "data/batch/packing.h"

namespace toroid {
namespace {

class SyntheticBatches : public BatchSource {
 public:
  explicit SyntheticBatches(const SyntheticTokens& tokens) : tokens_(tokens) {
    if (tokens.global_sequences <= 0 || tokens.tokens_per_sequence <= 0 || tokens.vocab <= 0 ||
        tokens.validation_sequences < 0) {
      throw UserError("synthetic tokens need at least one sequence of one token and a vocabulary");
    }
  }

  Batch batch(int64_t step) const override {
    return draw("train", step * tokens_.global_sequences, tokens_.global_sequences);
  }
  int64_t validation_sequences() const override { return tokens_.validation_sequences; }
  Batch validation(int64_t first, int64_t count) const override {
    require(first >= 0 && count >= 0 && first + count <= tokens_.validation_sequences,
            "validation sequences that are read exist");
    return draw("validation", first, count);
  }
  std::vector<SequenceProvenance> provenance(int64_t step) const override {
    std::vector<SequenceProvenance> all;
    for (int64_t i = 0; i < tokens_.global_sequences; ++i) {
      const int64_t index = step * tokens_.global_sequences + i;
      all.push_back(
          {index, "synthetic", 0, index, {{0, tokens_.tokens_per_sequence, index, 0, "random tokens", 0}}});
    }
    return all;
  }
  uint64_t fingerprint() const override {
    return hash_name("synthetic " + std::to_string(tokens_.global_sequences) + " " +
                     std::to_string(tokens_.tokens_per_sequence) + " " + std::to_string(tokens_.vocab) + " " +
                     std::to_string(tokens_.seed));
  }

 private:
  Batch draw(const char* name, int64_t first, int64_t count) const {
    Batch batch = empty_batch(count, tokens_.tokens_per_sequence);
    for (int64_t s = 0; s < count; ++s) {
      const RandomKey key =
          random_key(tokens_.seed, Purpose::synthetic, name, static_cast<uint64_t>(first + s));
      const Row row = row_of(batch, s);
      for (int64_t i = 0; i <= tokens_.tokens_per_sequence; ++i) {
        const uint64_t word = philox(key, static_cast<uint64_t>(i) / 4)[static_cast<size_t>(i % 4)];
        const auto id = static_cast<int32_t>(word * static_cast<uint64_t>(tokens_.vocab) >> 32);
        if (i > 0) row.targets[static_cast<size_t>(i - 1)] = id;
        if (i == tokens_.tokens_per_sequence) break;
        row.ids[static_cast<size_t>(i)] = id;
        row.positions[static_cast<size_t>(i)] = static_cast<int32_t>(i);
      }
    }
    batch.target_count = count * tokens_.tokens_per_sequence;
    batch.target_bytes = batch.target_count;  // a token counts as a byte, so that bits per byte is a number
    return batch;
  }

  SyntheticTokens tokens_;
};

}  // namespace

std::unique_ptr<BatchSource> synthetic_batches(const SyntheticTokens& tokens) {
  return std::make_unique<SyntheticBatches>(tokens);
}

}  // namespace toroid
