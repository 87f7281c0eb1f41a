#include "core/base/error.h"
#include "core/base/random.h"
#include "data/batch/batch.h"
#include "data/batch/packing.h"

namespace toroid {
namespace {

class SyntheticBatches : public BatchSource {
 public:
  explicit SyntheticBatches(const SyntheticTokens& tokens) : tokens_(tokens) {
    if (tokens.tokens_per_sequence <= 0 || tokens.vocab <= 0 || tokens.validation_sequences < 0) {
      throw UserError("synthetic tokens need sequences of at least one token and a vocabulary");
    }
  }

  Batch batch(int64_t position, int64_t count) const override {
    Batch batch = empty_batch(count, tokens_.tokens_per_sequence);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t index = skips_.index(position + i);
      draw("train", index, row_of(batch, i));
      draw_operands("train", index, batch);
    }
    count_targets(batch);
    return batch;
  }
  int64_t validation_sequences() const override { return tokens_.validation_sequences; }
  Batch validation(int64_t first, int64_t count) const override {
    require(first >= 0 && count >= 0 && first + count <= tokens_.validation_sequences,
            "validation sequences that are read exist");
    Batch batch = empty_batch(count, tokens_.tokens_per_sequence);
    for (int64_t i = 0; i < count; ++i) {
      draw("validation", first + i, row_of(batch, i));
      draw_operands("validation", first + i, batch);
    }
    count_targets(batch);
    return batch;
  }
  std::vector<SequenceProvenance> provenance(int64_t position, int64_t count) const override {
    std::vector<SequenceProvenance> all;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t index = skips_.index(position + i);
      all.push_back(
          {index, "synthetic", 0, index, {{0, tokens_.tokens_per_sequence, index, 0, "random tokens", 0}}});
    }
    return all;
  }
  void skip(const SkipList& skips) override { skips_ = skips; }
  uint64_t fingerprint() const override { return fingerprint_after(""); }
  uint64_t fingerprint_with_batch(int64_t global_sequences) const override {
    return fingerprint_after(std::to_string(global_sequences) + " ");
  }

 private:
  uint64_t fingerprint_after(const std::string& start) const {
    return hash_name("synthetic " + start + std::to_string(tokens_.tokens_per_sequence) + " " +
                     std::to_string(tokens_.vocab) + " " + std::to_string(tokens_.seed));
  }

  void draw(const char* name, int64_t index, const Row& row) const {
    require(index >= 0, "a sequence's index is not negative");
    const RandomKey key = random_key(tokens_.seed, Purpose::synthetic, name, static_cast<uint64_t>(index));
    for (int64_t i = 0; i <= tokens_.tokens_per_sequence; ++i) {
      const uint64_t word = philox(key, static_cast<uint64_t>(i) / 4)[static_cast<size_t>(i % 4)];
      const auto id = static_cast<int32_t>(word * static_cast<uint64_t>(tokens_.vocab) >> 32);
      if (i > 0) row.targets[static_cast<size_t>(i - 1)] = id;
      if (i == tokens_.tokens_per_sequence) break;
      row.ids[static_cast<size_t>(i)] = id;
      row.positions[static_cast<size_t>(i)] = static_cast<int32_t>(i);
    }
  }

  // Of the batch's next sequence.
  void draw_operands(const std::string& name, int64_t index, Batch& batch) const {
    for (const std::string& operand : tokens_.operands) {
      const RandomKey key =
          random_key(tokens_.seed, Purpose::synthetic, name + " " + operand, static_cast<uint64_t>(index));
      std::vector<float>& values = batch.operands[operand];
      for (int64_t i = 0; i < tokens_.tokens_per_sequence; ++i) {
        const uint64_t word = philox(key, static_cast<uint64_t>(i) / 4)[static_cast<size_t>(i % 4)];
        values.push_back(static_cast<float>(word >> 8) * 0x1p-24f);
      }
    }
  }

  // A token counts as a byte, so that bits per byte is a number.
  static void count_targets(Batch& batch) {
    batch.target_count = batch.target_bytes = batch.sequences * batch.tokens;
  }

  SyntheticTokens tokens_;
  SkipList skips_;
};

}  // namespace

std::unique_ptr<BatchSource> synthetic_batches(const SyntheticTokens& tokens) {
  return std::make_unique<SyntheticBatches>(tokens);
}

}  // namespace toroid
