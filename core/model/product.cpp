#include "core/model/product.h"

#include "core/op/elementwise.h"
#include "core/op/matmul.h"

namespace toroid {

void contract(const Context& c, const Tensor& x, const Tensor& w_forward, const Tensor& y, int64_t slices) {
  c.launch(op::matmul(x, w_forward, y), slices);
}

void contract_backward(const Context& c, const Tensor& dy, const PackedMatrix& w, const Tensor& dx,
                       std::initializer_list<int64_t> columns, int64_t slices) {
  if (w.backward_parts.empty()) {
    c.launch(op::matmul_dx(dy, w.backward, dx), slices);
    return;
  }
  // The first matrix is the widest and the only one that is always split: keys and values follow whole.
  const Array sum = c.array_f32(dx.shape, "temporaries");
  int64_t first = 0;
  size_t part = 0;
  for (const int64_t width : columns) {
    if (part == w.backward_parts.size()) break;
    const bool split = width == *columns.begin();
    c.launch(op::matmul_dx(dy.slice_columns(first, width), w.backward_parts[part], sum.tensor, {part > 0}),
             split ? slices : 1);
    first += width;
    ++part;
  }
  c.launch(op::cast(sum.tensor, dx));
}

void weight_gradient(const Context& c, const Tensor& dy, const Tensor& x, std::span<Gradient> gradients) {
  int64_t column = 0;
  for (size_t first = 0; first < gradients.size();) {
    Tensor joined = gradients[first].tensor;
    size_t last = first + 1;
    for (; last < gradients.size(); ++last) {
      const Gradient& next = gradients[last];
      const bool neighbour = next.tensor.block == joined.block && next.fresh == gradients[first].fresh &&
                             next.tensor.offset_bytes == joined.offset_bytes + joined.bytes();
      if (!neighbour) break;
      joined.shape = {joined.rows() + next.tensor.rows(), joined.columns()};
    }
    c.launch(op::matmul_dw(dy.slice_columns(column, joined.rows()), x, joined, {!gradients[first].fresh}));
    column += joined.rows();
    for (; first < last; ++first) gradients[first].fresh = false;
  }
}

}  // namespace toroid
