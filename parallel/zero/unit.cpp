#include "parallel/zero/unit.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/round_up.h"
#include "core/model/share.h"
#include "core/op/reduce.h"
#include "core/op/wire.h"

namespace toroid {
namespace {

// What each of `shards` ranks holds. With more ranks than blocks they get halves, quarters ... of one, down
// to a block of quantisation: whole ones would be mostly padding (for 256 ranks, 4 MiB in fp32 for the
// smallest unit), and a part that divides a block still holds one tensor only.
int64_t shard_elements(int64_t blocks, int64_t shards) {
  if (blocks >= shards) return divide_up(blocks, shards) * op::kReduceBlock;
  int64_t elements = op::kQuantBlock;
  while (elements * shards < blocks * op::kReduceBlock) elements *= 2;
  return elements;
}

}  // namespace

Slice part_of(const TensorSpec& tensor, Place model) {
  Slice slice;
  slice.shape = tensor.shape;
  slice.elements = tensor.shape.elements();
  slice.counted = model.rank == 0;
  if (tensor.model_dim < 0 || model.size == 1) return slice;
  const int64_t whole = tensor.shape[tensor.model_dim];
  const int64_t extent = rows_of_part(whole, model.size, tensor.pieces);
  require(tensor.shape.rank() == 2 && (tensor.model_dim == 0 || extent * model.size == whole),
          "the model axis splits a matrix; only rows can be padded");
  slice.split = slice.counted = true;
  slice.first = std::min(model.rank * extent, whole);
  slice.shape = tensor.model_dim == 0 ? Shape{extent, tensor.shape[1]} : Shape{tensor.shape[0], extent};
  slice.elements = tensor.model_dim == 0 ? std::min(extent, whole - slice.first) * tensor.shape[1]
                                         : slice.shape.elements();
  return slice;
}

Run run_of(const Slice& slice, int64_t begin, int64_t end) {
  const int64_t first = std::max(begin, slice.offset), last = std::min(end, slice.offset + slice.elements);
  return {first, std::max(first, last)};
}

Unit make_unit(UnitSpec spec, Place model, int shards) {
  Unit unit;
  unit.spec = std::move(spec);
  for (const TensorSpec& tensor : unit.spec.tensors) unit.slices.push_back(part_of(tensor, model));
  const auto place = [&](Slice& slice) {
    slice.offset = unit.blocks * op::kReduceBlock;
    unit.blocks += op::reduce_blocks(slice.shape.elements());
  };
  if (model.size == 1) {
    for (Slice& slice : unit.slices) place(slice);
  } else {
    for (Slice& slice : unit.slices) {
      if (!slice.split) place(slice);
    }
    unit.whole_elements = unit.blocks * op::kReduceBlock;
    for (Slice& slice : unit.slices) {
      if (slice.split) place(slice);
    }
  }
  unit.flat_elements = shards * shard_elements(unit.blocks, shards);
  return unit;
}

std::vector<Piece> Unit::pieces(size_t t, int64_t begin, int64_t end) const {
  const Slice& slice = slices[t];
  const auto [from, to] = run_of(slice, begin, end);
  std::vector<Piece> out;
  if (from == to) return out;
  const TensorSpec& tensor = spec.tensors[t];
  if (!slice.split || tensor.model_dim == 0) {
    const int64_t first = slice.split ? slice.first * tensor.shape[1] : 0;
    out.push_back({from, first + from - slice.offset, to - from});
    return out;
  }
  // Columns of the whole: each row of the part is a run of its own.
  const int64_t width = slice.shape[1];
  for (int64_t at = from; at < to;) {
    const int64_t row = (at - slice.offset) / width, column = (at - slice.offset) % width;
    const int64_t count = std::min(to - at, width - column);
    out.push_back({at, row * tensor.shape[1] + slice.first + column, count});
    at += count;
  }
  return out;
}

}  // namespace toroid
