#include "core/model/product.h"

#include <functional>
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

// Writes rows of a sum, where the first of them stands in it, or adds to them.
using Summand = std::function<void(const Tensor& rows, int64_t first, bool add)>;

// Partial sums are fp32; tests that take finite differences compute in f64.
Array partial_sum(const Context& c, Shape shape, std::string_view holder) {
  return c.device.array(c.compute == DType::f64 ? DType::f64 : DType::f32, shape, holder);
}

// The summands of [M, columns] added up, and the own rows of their sum over the ranks.
Array sum_over_ranks(const Context& c, Shape shape, std::span<const Summand> summands,
                     const std::string& name, std::string_view holder) {
  const RowWork all = [&](const Tensor& rows, int64_t first) {
    for (const Summand& summand : summands) summand(rows, first, &summand != &summands.front());
  };
  if (alone(c)) {
    Array sum = partial_sum(c, shape, holder);
    all(sum.tensor, 0);
    return sum;
  }
  if (!c.tiles.deterministic) return scatter_sum(c, partial_sum(c, shape, kTemporary), all, name, holder);
  // The summands' trees over the ranks come one after the other, each for itself.
  Array sum;
  for (const Summand& summand : summands) {
    const RowWork one = [&](const Tensor& rows, int64_t first) { summand(rows, first, false); };
    Array part = scatter_sum(c, partial_sum(c, shape, kTemporary), one, name, holder);
    if (sum.tensor) {
      c.launch(op::add(part.tensor, sum.tensor));
    } else {
      sum = std::move(part);
    }
  }
  return sum;
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

Array contract(const Context& c, std::span<const ForwardTerm> terms, int64_t slices, const std::string& name,
               std::string_view holder) {
  const Shape shape{terms[0].x.rows(), terms[0].w.rows()};
  if (alone(c) && terms.size() == 1) {
    Array y = c.array(shape, holder);
    c.launch(op::matmul(terms[0].x, terms[0].w, y.tensor), slices);
    return y;
  }
  std::vector<Summand> summands;
  for (const ForwardTerm& term : terms) {
    summands.emplace_back([&c, &term, slices](const Tensor& rows, int64_t first, bool add) {
      c.launch(op::matmul(term.x.slice_rows(first, rows.rows()), term.w, rows, {add}), slices);
    });
  }
  Array sum = sum_over_ranks(c, shape, summands, name, c.compute == DType::bf16 ? kTemporary : holder);
  return rounded(c, std::move(sum), holder);
}

Array contract_backward(const Context& c, std::span<const BackwardTerm> terms, const std::string& name) {
  const PackedMatrix& w = terms[0].w;
  const Shape shape{terms[0].dy.rows(),
                    (w.backward_parts.empty() ? w.backward : w.backward_parts[0]).columns()};
  if (alone(c) && terms.size() == 1 && w.backward_parts.empty()) {
    Array dx = c.array(shape, kTemporary);
    c.launch(op::matmul_dx(terms[0].dy, w.backward, dx.tensor), terms[0].matrices[0].slices);
    return dx;
  }
  std::vector<Summand> summands;
  for (const BackwardTerm& term : terms) {
    each_tree(term, [&](const Tensor& dy, const Tensor& matrix, int64_t slices) {
      summands.emplace_back([&c, dy, matrix, slices](const Tensor& rows, int64_t first, bool add) {
        c.launch(op::matmul_dx(dy.slice_rows(first, rows.rows()), matrix, rows, {add}), slices);
      });
    });
  }
  return sum_over_ranks(c, shape, summands, name, kTemporary);
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
