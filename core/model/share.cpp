#include "core/model/share.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/round_up.h"
#include "core/model/split.h"

namespace toroid {
namespace {

// The heads [first, first + heads) by the key/value heads that serve `group` of them each; as a rank that
// begins with query head `base` counts them.
std::vector<HeadRun> runs_of(int64_t first, int64_t heads, int64_t group, int64_t base) {
  if (first % group == 0 && heads % group == 0) return {{first - base, heads, first / group, heads / group}};
  std::vector<HeadRun> runs;
  for (int64_t head = first; head < first + heads;) {
    const int64_t kv_head = head / group, end = std::min(first + heads, (kv_head + 1) * group);
    runs.push_back({head - base, end - head, kv_head, 1});
    head = end;
  }
  return runs;
}

}  // namespace

bool keeps_kv_whole(const DecoderConfig& config, int ranks, bool deterministic) {
  return config.kv_heads % (deterministic ? config.canonical_slices() : ranks) != 0;
}

int64_t rows_of_part(int64_t extent, int ranks, int64_t pieces) {
  if (pieces % ranks != 0) pieces = ranks;
  return divide_up(extent, pieces) * (pieces / ranks);
}

ModelShare::ModelShare(const DecoderConfig& config, Place of, bool deterministic)
    : place(of),
      heads(config.heads / of.size),
      kv_heads(config.kv_heads),
      ffn(config.ffn / of.size),
      whole_kv(of.size > 1 && keeps_kv_whole(config, of.size, deterministic)),
      slices(std::max<int64_t>(1, config.canonical_slices() / of.size)) {
  if (const std::string why = why_not_split(config.heads, config.ffn, of.size, deterministic); !why.empty())
    throw UserError(why);
  const int64_t canonical = config.canonical_slices(), group = config.heads / config.kv_heads;
  vocab_rows = of.size == 1 ? config.vocab : rows_of_part(config.vocab, of.size, canonical);
  first_token = of.rank * vocab_rows;
  vocab_valid = std::clamp<int64_t>(config.vocab - first_token, 0, vocab_rows);
  const int64_t first = of.rank * heads;
  if (whole_kv) {
    runs = runs_of(first, heads, group, first);
  } else {
    kv_heads /= of.size;
    runs = {{0, heads, 0, kv_heads}};
  }
  kv_terms = {runs};
  const bool straddles = canonical % config.kv_heads != 0 && config.kv_heads % canonical != 0;
  if (!deterministic || !straddles) return;
  kv_terms.clear();
  const int64_t each = config.heads / canonical;
  for (int64_t slice = 0; slice < slices; ++slice)
    kv_terms.push_back(runs_of(first + slice * each, each, group, first));
}

}  // namespace toroid
