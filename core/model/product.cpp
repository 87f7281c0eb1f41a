#include "core/model/product.h"

#include "core/op/elementwise.h"
#include "core/op/matmul.h"

namespace toroid {
namespace {

bool alone(const Context& c) {
  return c.model.place().size == 1;
}

// Calls add(dy of a matrix, matrix, its slices) for each tree of the term.
template <class Add>
void each_tree(const BackwardTerm& term, const Add& add) {
  if (term.w.backward_parts.empty()) {
    add(term.dy, term.w.backward, term.matrices[0].slices);
    return;
  }
  int64_t first = 0;
  for (size_t i = 0; i < term.w.backward_parts.size(); ++i) {
    const auto [columns, slices] = term.matrices[i];
    add(term.dy.slice_columns(first, columns), term.w.backward_parts[i], slices);
    first += columns;
  }
}

}  // namespace

Array gather_rows(const Context& c, const Tensor& own, const std::string& name) {
  return c.model.all_gather({own, Buffer()}, {name, kTemporary, c.phase});
}

Array scatter_sum(const Context& c, Array partial, const std::string& name, std::string_view holder) {
  const bool rounded = c.compute != partial.tensor.type;
  Array sum =
      c.model.reduce_scatter(std::move(partial), Wire::exact, {name, rounded ? kTemporary : holder, c.phase});
  if (!rounded) return sum;
  Array out = c.array(sum.tensor.shape, holder);
  c.launch(op::cast(sum.tensor, out.tensor));
  return out;
}

Array contract(const Context& c, const Tensor& x, const Tensor& w_forward, int64_t slices,
               const std::string& name, std::string_view holder) {
  const Shape shape{x.rows(), w_forward.rows()};
  if (alone(c)) {
    Array y = c.array(shape, holder);
    c.launch(op::matmul(x, w_forward, y.tensor), slices);
    return y;
  }
  Array partial = c.array_f32(shape, kTemporary);
  c.launch(op::matmul(x, w_forward, partial.tensor), slices);
  return scatter_sum(c, std::move(partial), name, holder);
}

Array contract_backward(const Context& c, const BackwardTerm& split, const BackwardTerm* whole,
                        const std::string& name) {
  const PackedMatrix& w = split.w;
  const Shape shape{split.dy.rows(), (w.backward_parts.empty() ? w.backward : w.backward_parts[0]).columns()};
  if (alone(c) && w.backward_parts.empty()) {
    Array dx = c.array(shape, kTemporary);
    c.launch(op::matmul_dx(split.dy, w.backward, dx.tensor), split.matrices[0].slices);
    return dx;
  }
  // The stacked matrices' trees over the ranks come first, each for itself, then what no rank shares.
  Array sum;
  each_tree(split, [&](const Tensor& dy, const Tensor& matrix, int64_t slices) {
    if (alone(c)) {
      const bool first = !sum.tensor;
      if (first) sum = c.array_f32(shape, kTemporary);
      c.launch(op::matmul_dx(dy, matrix, sum.tensor, {!first}), slices);
      return;
    }
    Array partial = c.array_f32(shape, kTemporary);
    c.launch(op::matmul_dx(dy, matrix, partial.tensor), slices);
    Array part = c.model.reduce_scatter(std::move(partial), Wire::exact, {name, kTemporary, c.phase});
    if (sum.tensor) {
      c.launch(op::add(part.tensor, sum.tensor));
    } else {
      sum = std::move(part);
    }
  });
  if (whole != nullptr) {
    each_tree(*whole, [&](const Tensor& dy, const Tensor& matrix, int64_t slices) {
      c.launch(op::matmul_dx(dy, matrix, sum.tensor, {true}), slices);
    });
  }
  if (c.compute == DType::f32) return sum;
  Array dx = c.array(sum.tensor.shape, kTemporary);
  c.launch(op::cast(sum.tensor, dx.tensor));
  return dx;
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
