#include "core/model/share.h"

#include <algorithm>

#include "core/base/error.h"

namespace toroid {

bool keeps_kv_whole(const DecoderConfig& config, int ranks, bool deterministic) {
  return config.kv_heads % (deterministic ? config.canonical_slices() : ranks) != 0;
}

int64_t rows_of_part(int64_t extent, int ranks, int64_t pieces) {
  if (pieces % ranks != 0) pieces = ranks;
  return (extent + pieces - 1) / pieces * (pieces / ranks);
}

ModelShare::ModelShare(const DecoderConfig& config, Place of, bool deterministic)
    : place(of),
      heads(config.heads / of.size),
      kv_heads(config.kv_heads),
      ffn(config.ffn / of.size),
      whole_kv(of.size > 1 && keeps_kv_whole(config, of.size, deterministic)),
      slices(config.canonical_slices()) {
  require(config.heads % of.size == 0 && config.ffn % of.size == 0, "the model axis divides heads and ffn");
  if (deterministic && slices % of.size != 0) {
    throw UserError("deterministic mode cuts this model into " + std::to_string(slices) +
                    " slices, which a model axis of " + std::to_string(of.size) +
                    " ranks does not divide; choose a model axis of at most that many ranks");
  }
  slices = std::max<int64_t>(1, slices / of.size);
  vocab_rows = of.size == 1 ? config.vocab : rows_of_part(config.vocab, of.size, config.canonical_slices());
  first_token = of.rank * vocab_rows;
  vocab_valid = std::clamp<int64_t>(config.vocab - first_token, 0, vocab_rows);
  if (!whole_kv) {
    kv_heads /= of.size;
    runs = {{0, heads, 0, kv_heads}};
    return;
  }
  // Key/value head g serves query heads [g group, (g + 1) group).
  const int64_t group = config.heads / config.kv_heads, first = of.rank * heads;
  if (heads % group == 0) {
    runs = {{0, heads, first / group, heads / group}};
    return;
  }
  for (int64_t head = first; head < first + heads;) {
    const int64_t kv_head = head / group, end = std::min(first + heads, (kv_head + 1) * group);
    runs.push_back({head - first, end - head, kv_head, 1});
    head = end;
  }
  // The sum over a key/value head's queries is a tree only where the ranks' parts of it are alike.
  if (deterministic && group % heads != 0) {
    throw UserError("in deterministic mode the " + std::to_string(of.size) +
                    " ranks of the model axis must hold equal parts of each key/value head's " +
                    std::to_string(group) + " query heads; choose another model axis, or none");
  }
}

}  // namespace toroid
