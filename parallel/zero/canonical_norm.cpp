// The global norm's sums of squares in deterministic mode, in an order that the model alone fixes: slice
// after canonical slice of all that a model axis may split, then what it never splits. Each slice of a tensor
// is cut into blocks for itself, in the order of its own rows, so that whoever holds it sums the same blocks.
// Shards of the data axis do not follow slices: a unit's gradient is gathered first. This mode may be slow.
#include <algorithm>

#include "core/base/error.h"
#include "core/op/elementwise.h"
#include "core/op/reduce.h"
#include "parallel/zero/zero.h"

namespace toroid {
namespace {

// Rows or columns of one canonical slice of a tensor.
int64_t slice_extent(const TensorSpec& tensor) {
  return (tensor.shape[tensor.model_dim] + tensor.pieces - 1) / tensor.pieces;
}

int64_t slice_blocks(const TensorSpec& tensor) {
  return op::reduce_blocks(slice_extent(tensor) * tensor.shape[1 - tensor.model_dim]);
}

}  // namespace

Zero::CanonicalBlocks Zero::canonical_blocks() const {
  CanonicalBlocks blocks;
  for (const Unit& unit : units_) {
    for (const TensorSpec& tensor : unit.spec.tensors) {
      if (tensor.model_dim < 0) {
        blocks.whole += op::reduce_blocks(tensor.shape.elements());
        continue;
      }
      require(blocks.slices == 0 || blocks.slices == tensor.pieces, "all tensors have the same slices");
      blocks.slices = tensor.pieces;
      blocks.each += slice_blocks(tensor);
    }
  }
  return blocks;
}

Tensor Zero::canonical_partials() {
  const CanonicalBlocks blocks = canonical_blocks();
  const CollectiveLabel label{"gradient norm", "gradients", Phase::optimizer};
  const Place model = groups_.model.place();
  const int64_t here = blocks.slices / model.size, first_slice = model.rank * here;
  const Tensor& all = partials_.tensor;
  const auto sum = [&](const Tensor& x, const Tensor& partials) {
    const int64_t used = op::reduce_blocks(x.elements()), left = partials.elements() - used;
    if (used > 0) launch(op::sum_squares(x, partials.slice_rows(0, used)), Phase::optimizer);
    if (left > 0) launch(op::fill(partials.slice_rows(used, left), {0}), Phase::optimizer);
  };
  int64_t in_slice = 0, in_whole = blocks.slices * blocks.each;
  for (size_t u = 0; u < units_.size(); ++u) {
    const Unit& unit = units_[u];
    Array flat{held_[u].pending[0].tensor, {}};
    if (sharded_) flat = groups_.gather.all_gather(std::move(flat), label);
    for (size_t t = 0; t < unit.slices.size(); ++t) {
      const TensorSpec& tensor = unit.spec.tensors[t];
      const Slice& slice = unit.slices[t];
      const Tensor part = flat.tensor.slice_rows(slice.offset, slice.elements);
      if (tensor.model_dim < 0) {
        const int64_t count = op::reduce_blocks(slice.elements);
        sum(part, all.slice_rows(in_whole, count));
        in_whole += count;
        continue;
      }
      const int64_t extent = slice_extent(tensor), count = slice_blocks(tensor);
      for (int64_t s = 0; s < here; ++s) {
        const Tensor to = all.slice_rows((first_slice + s) * blocks.each + in_slice, count);
        if (tensor.model_dim == 0) {
          const int64_t each = extent * slice.shape[1], begin = std::min(slice.elements, s * each);
          sum(part.slice_rows(begin, std::min(slice.elements, begin + each) - begin), to);
        } else {
          const Array columns = device_.array(DType::f32, {slice.shape[0], extent}, "gradients");
          launch(op::cast(part.reshape(slice.shape).slice_columns(s * extent, extent), columns.tensor),
                 Phase::optimizer);
          sum(columns.tensor.reshape({columns.tensor.elements()}), to);
        }
      }
      in_slice += count;
    }
  }
  if (model.size > 1) {
    const Tensor own = all.slice_rows(first_slice * blocks.each, here * blocks.each);
    const Array slices = groups_.model.all_gather({own, {}}, label);
    device_.copy(all.slice_rows(0, blocks.slices * blocks.each), slices.tensor);
  }
  return all;
}

}  // namespace toroid
