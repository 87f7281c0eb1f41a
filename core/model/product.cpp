#include "core/model/product.h"

#include <utility>

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

Array gather_rows(const Context& c, const Tensor& own, const std::string& name, const RowWork& use,
                  std::string_view holder) {
  const CollectiveLabel label{name, holder, c.phase};
  if (!use) return c.model.all_gather({own, Buffer()}, label);
  return c.model.all_gather_beside({own, Buffer()}, use, label);
}

Array scatter_sum(const Context& c, Array partial, const RowWork& make, const std::string& name,
                  std::string_view holder) {
  const CollectiveLabel label{name, holder, c.phase};
  if (!make) return c.model.reduce_scatter(std::move(partial), c.model_wire, label);
  return c.model.reduce_scatter_beside(std::move(partial), c.model_wire, make, label);
}

Array rounded(const Context& c, Array sum, std::string_view holder) {
  if (sum.tensor.type == c.compute) return sum;
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
  const RowWork product = [&](const Tensor& rows, int64_t first) {
    c.launch(op::matmul(x.slice_rows(first, rows.rows()), w_forward, rows), slices);
  };
  Array sum = scatter_sum(c, c.array_f32(shape, kTemporary), product, name,
                          c.compute == DType::f32 ? holder : kTemporary);
  return rounded(c, std::move(sum), holder);
}

Array contract_backward(const Context& c, const BackwardTerm& term, const std::string& name) {
  const PackedMatrix& w = term.w;
  const Shape shape{term.dy.rows(), (w.backward_parts.empty() ? w.backward : w.backward_parts[0]).columns()};
  if (alone(c) && w.backward_parts.empty()) {
    Array dx = c.array(shape, kTemporary);
    c.launch(op::matmul_dx(term.dy, w.backward, dx.tensor), term.matrices[0].slices);
    return dx;
  }
  // The stacked matrices' trees over the ranks come one after the other, each for itself.
  Array sum;
  each_tree(term, [&](const Tensor& dy, const Tensor& matrix, int64_t slices) {
    if (alone(c)) {
      const bool first = !sum.tensor;
      if (first) sum = c.array_f32(shape, kTemporary);
      c.launch(op::matmul_dx(dy, matrix, sum.tensor, {!first}), slices);
      return;
    }
    const RowWork product = [&](const Tensor& rows, int64_t first) {
      c.launch(op::matmul_dx(dy.slice_rows(first, rows.rows()), matrix, rows), slices);
    };
    Array part = scatter_sum(c, c.array_f32(shape, kTemporary), product, name);
    if (sum.tensor) {
      c.launch(op::add(part.tensor, sum.tensor));
    } else {
      sum = std::move(part);
    }
  });
  return sum;
}

void add_backward(const Context& c, const BackwardTerm& whole, const Tensor& sum) {
  each_tree(whole, [&](const Tensor& dy, const Tensor& matrix, int64_t slices) {
    c.launch(op::matmul_dx(dy, matrix, sum, {true}), slices);
  });
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
