#include "data/batch/packing.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/round_up.h"

namespace toroid {

int64_t packed_sequences(const ShardReader& shard, int64_t tokens) {
  return divide_up(shard.tokens(), tokens);
}

Row row_of(Batch& batch, int64_t sequence) {
  const auto first = static_cast<size_t>(sequence * batch.tokens), count = static_cast<size_t>(batch.tokens);
  const auto part = [&](std::vector<int32_t>& whole) { return std::span(whole).subspan(first, count); };
  return {part(batch.ids), part(batch.targets), part(batch.positions), part(batch.document_starts)};
}

Batch empty_batch(int64_t sequences, int64_t tokens) {
  require(sequences >= 0 && tokens > 0 && sequences <= (int64_t{1} << 40) / tokens, "a batch fits memory");
  Batch batch;
  batch.sequences = sequences;
  batch.tokens = tokens;
  const auto count = static_cast<size_t>(sequences * tokens);
  batch.ids.assign(count, 0);
  batch.targets.assign(count, -1);
  batch.positions.assign(count, 0);
  batch.document_starts.assign(count, 0);
  return batch;
}

void pack_sequence(const ShardReader& shard, int64_t sequence, int32_t pad, const Row& row) {
  const auto tokens = static_cast<int64_t>(row.ids.size());
  const int64_t first = sequence * tokens;
  const int64_t last = std::min(first + tokens, shard.tokens());
  require(sequence >= 0 && first < last, "a sequence is within its epoch");
  // One more than fits, where there is one: the target of the last token.
  std::vector<int32_t> stream(static_cast<size_t>(std::min(last + 1, shard.tokens()) - first));
  shard.read(first, stream);

  int64_t document = shard.document_of(first);
  for (int64_t begin = first; begin < last; ++document) {
    const int64_t document_end = shard.document_start(document + 1);
    const int64_t end = std::min(document_end, last);
    for (int64_t token = begin; token < end; ++token) {
      const auto i = static_cast<size_t>(token - first);
      row.ids[i] = stream[i];
      row.targets[i] = token + 1 < document_end ? stream[i + 1] : -1;
      row.positions[i] = static_cast<int32_t>(token - begin);
      row.document_starts[i] = static_cast<int32_t>(begin - first);
    }
    begin = end;
  }
  for (int64_t token = last; token < first + tokens; ++token) {
    const auto i = static_cast<size_t>(token - first);
    row.ids[i] = pad;
    row.targets[i] = -1;
    row.positions[i] = static_cast<int32_t>(token - last);
    row.document_starts[i] = static_cast<int32_t>(last - first);
  }
}

std::vector<DocumentSpan> packed_documents(const ShardReader& shard, int64_t sequence, int64_t tokens) {
  const int64_t first = sequence * tokens;
  const int64_t last = std::min(first + tokens, shard.tokens());
  std::vector<DocumentSpan> spans;
  int64_t document = shard.document_of(first);
  for (int64_t begin = first; begin < last; ++document) {
    const int64_t start = shard.document_start(document);
    const int64_t end = std::min(shard.document_start(document + 1), last);
    const ShardDocument entry = shard.document(document);
    spans.push_back({begin - first, end - begin, document, begin - start, entry.name, entry.hash});
    begin = end;
  }
  return spans;
}

}  // namespace toroid
