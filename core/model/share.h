// What one rank of the model axis computes of the decoder: N query heads and F ffn columns are split, V is
// cut into rows of the table; K key/value heads are split too where there are enough of them, else every rank
// computes all of them on its own tokens.
#pragma once

#include <vector>

#include "core/comm/communicator.h"
#include "core/model/decoder_config.h"

namespace toroid {

// Query heads here that share key/value heads: [head, head + heads) of the rank's own, served by
// [kv_head, kv_head + kv_heads) of the keys and values at hand.
struct HeadRun {
  int64_t head = 0, heads = 0, kv_head = 0, kv_heads = 0;
};

struct ModelShare {
  // UserError where why_not_split() has a reason.
  ModelShare(const DecoderConfig& config, Place place, bool deterministic);

  Place place;
  int64_t heads, kv_heads, ffn;  // of products here; all K key/value heads where those are whole
  bool whole_kv;                 // keys and values are computed on own tokens, then gathered
  int64_t slices;                // of the canonical ones, those that this rank sums
  std::vector<HeadRun> runs;
  // The gradient of keys and values is a sum over query heads. Mostly one term of all runs, which the
  // operator sums by slices where it must. In deterministic mode, where a canonical slice begins or ends
  // inside a key/value head's group, a term for each slice here; the terms of all ranks are then a balanced
  // tree.
  std::vector<std::vector<HeadRun>> kv_terms;
  int64_t vocab_rows;   // of the table here, with padding
  int64_t first_token;  // the id of the first of them
  int64_t vocab_valid;  // without padding

  int64_t qkv_columns(int64_t head_dim) const { return (heads + (whole_kv ? 0 : 2 * kv_heads)) * head_dim; }
};

// Whether a model axis of `ranks` leaves the key/value heads whole. In deterministic mode they are split only
// where each canonical slice has its own: the answer does not depend on the layout.
bool keeps_kv_whole(const DecoderConfig& config, int ranks, bool deterministic);

// Rows of one rank's part of `extent` rows that are dealt in `pieces` equal ones, the last ones padded.
int64_t rows_of_part(int64_t extent, int ranks, int64_t pieces);

}  // namespace toroid
