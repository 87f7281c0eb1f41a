// One sequence of a shard's packed stream (batch.h says how it is cut). Private to this folder.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/batch/batch.h"
#include "data/shard/shard.h"

namespace toroid {

// Sequences of T tokens that a stream is cut into, the last one filled up.
int64_t packed_sequences(const ShardReader& shard, int64_t tokens);

// What a Batch is made of, with one row for each sequence; counts are added up by the caller.
struct Row {
  std::span<int32_t> ids, targets, positions, document_starts;
};

Row row_of(Batch& batch, int64_t sequence);

// A batch of that shape, everything zero and masked.
Batch empty_batch(int64_t sequences, int64_t tokens);

void pack_sequence(const ShardReader& shard, int64_t sequence, int32_t pad, const Row& row);

// The documents that sequence `sequence` is cut from, in order.
std::vector<DocumentSpan> packed_documents(const ShardReader& shard, int64_t sequence, int64_t tokens);

}  // namespace toroid
