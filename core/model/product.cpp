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

void weight_gradient(const Context& c, const Tensor& dy, const Tensor& x, Gradient& gradient) {
  c.launch(op::matmul_dw(dy, x, gradient.tensor, {!gradient.fresh}));
  gradient.fresh = false;
}

}  // namespace toroid
