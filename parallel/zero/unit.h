// A unit's tensors laid out in one flat buffer, and what of it this rank holds. Initialisation, norm, decay,
// hash and checkpoint walk the one table of slices; flat buffers themselves are never saved.
#pragma once

#include <cstdint>
#include <vector>

#include "core/comm/communicator.h"
#include "core/model/decoder_config.h"

namespace toroid {

// A tensor of the unit: the model rank's part of it, in the flat buffer that the data axis shares.
struct Slice {
  int64_t offset = 0;    // first element in the flat buffer, a multiple of the padding block
  int64_t elements = 0;  // of the part, without padding
  Shape shape;           // of the part, with the rows that pad it
  int64_t first = 0;     // index along the split dimension at which the part begins
  bool split = false;    // by the model axis
  bool counted = true;   // enters norm, hash and checkpoint: once of each element in a pod
};

// A model rank's part, not placed in a flat buffer yet.
Slice part_of(const TensorSpec& tensor, Place model);

// A run of elements that is contiguous both in the flat buffer and in the whole tensor.
struct Piece {
  int64_t offset = 0;  // in the flat buffer
  int64_t global = 0;  // element index in the whole tensor
  int64_t elements = 0;
};

// Elements [first, last) of the flat buffer.
struct Run {
  int64_t first = 0, last = 0;
  int64_t elements() const { return last - first; }
};
// Those of a part, without padding, that lie in [begin, end); first is last where none does.
Run run_of(const Slice& slice, int64_t begin, int64_t end);

struct Unit {
  UnitSpec spec;
  std::vector<Slice> slices;  // one for each tensor of the spec
  int64_t flat_elements = 0;  // with padding: equal shards of whole blocks, or of an even part of one
  // Where there is a model axis, the tensors that it does not split come first: one sum over it serves them.
  int64_t whole_elements = 0;
  int64_t blocks = 0;  // op::kReduceBlock elements each, without the padding of the last shards

  // Tensor `t`'s elements that lie in [begin, end) of the flat buffer.
  std::vector<Piece> pieces(size_t t, int64_t begin, int64_t end) const;
};

// Slices are padded to blocks of op::kReduceBlock elements, so that a block never holds two tensors: sums
// over blocks are then the same however the buffer is cut, unless there are more shards than blocks: a shard
// is then a half, quarter ... of a block. `shards` ranks share the buffer.
Unit make_unit(UnitSpec spec, Place model, int shards);

}  // namespace toroid
