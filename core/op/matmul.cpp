// m rows, n outputs, k inputs.
#include "core/op/matmul.h"

#include <algorithm>

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

Cost product_cost(const Call& call, Product product) {
  Cost cost = traffic(call);
  cost.products.push_back(product);
  return cost;
}

// out[rows, columns] (+)= sum over `depth` of a(r, i) b(i, c), with a and b given by their strides.
void multiply(const Call& call, const Tensor& out, size_t depth, const std::vector<double>& a, size_t a_row,
              size_t a_step, const std::vector<double>& b, size_t b_step, size_t b_column) {
  const size_t rows = static_cast<size_t>(out.shape[0]), columns = static_cast<size_t>(out.shape[1]);
  std::vector<double> sums = call.get<MatmulSpec>().accumulate
                                 ? load(out)
                                 : std::vector<double>(static_cast<size_t>(out.elements()), 0.0);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c) {
      double sum = 0;
      for (size_t i = 0; i < depth; ++i) sum += a[r * a_row + i * a_step] * b[i * b_step + c * b_column];
      sums[r * columns + c] += sum;
    }
  }
  store(out, sums);
}

Cost matmul_cost(const Call& call) {
  const Tensor &x = call[0], &y = call[2];
  return product_cost(call, {y.shape[0], y.shape[1], x.shape[1], 1, x.type});
}

void matmul_reference(const Call& call) {
  const size_t k = static_cast<size_t>(call[0].shape[1]);
  multiply(call, call[2], k, load(call[0]), k, 1, load(call[1]), 1, k);
}

Cost matmul_dx_cost(const Call& call) {
  const Tensor &dy = call[0], &dx = call[2];
  return product_cost(call, {dx.shape[0], dx.shape[1], dy.shape[1], 1, dy.type});
}

void matmul_dx_reference(const Call& call) {
  const size_t n = static_cast<size_t>(call[0].shape[1]), k = static_cast<size_t>(call[2].shape[1]);
  multiply(call, call[2], n, load(call[0]), n, 1, load(call[1]), k, 1);
}

Cost matmul_dw_cost(const Call& call) {
  const Tensor &dy = call[0], &dw = call[2];
  return product_cost(call, {dw.shape[0], dw.shape[1], dy.shape[0], 1, dy.type});
}

void matmul_dw_reference(const Call& call) {
  const size_t m = static_cast<size_t>(call[0].shape[0]), n = static_cast<size_t>(call[0].shape[1]),
               k = static_cast<size_t>(call[1].shape[1]);
  multiply(call, call[2], m, load(call[0]), 1, n, load(call[1]), k, 1);
}

Cost pack_cost(const Call& call) {
  return traffic(call);
}

void pack_reference(const Call& call) {
  const Tensor& packed = call[call.operands.size() - 1];
  std::vector<double> rows;
  for (size_t i = 0; i + 1 < call.operands.size(); ++i) {
    const std::vector<double> part = load(call[i]);
    rows.insert(rows.end(), part.begin(), part.end());
  }
  store(packed, rows);
}

bool is_weight(const Tensor& w, Layout layout) {
  return is_float(w) && w.shape.rank() == 2 && w.layout == layout;
}

Call product_call(const OpKind& kind, const Tensor& a, const Tensor& b, const Tensor& out, MatmulSpec spec) {
  return {&kind,
          {{a, Access::in}, {b, Access::in}, {out, spec.accumulate ? Access::inout : Access::out}},
          spec,
          {},
          {}};
}

}  // namespace

constinit const OpKind matmul_kind{.name = "matmul", .cost = matmul_cost, .reference = matmul_reference};
constinit const OpKind matmul_dx_kind{
    .name = "matmul_dx", .cost = matmul_dx_cost, .reference = matmul_dx_reference};
constinit const OpKind matmul_dw_kind{
    .name = "matmul_dw", .cost = matmul_dw_cost, .reference = matmul_dw_reference};
constinit const OpKind pack_kind{.name = "pack", .cost = pack_cost, .reference = pack_reference};

Call matmul(const Tensor& x, const Tensor& w, const Tensor& y, MatmulSpec spec) {
  check(is_float(x) && is_matrix(x) && is_weight(w, Layout::packed_forward) && x.type == w.type &&
            x.shape[1] == w.shape[1],
        "matmul", "x [m, k] and w packed_forward [n, k] of one type", {{"x", x}, {"w", w}});
  check(is_float(y) && is_dense_matrix(y) && y.shape == Shape{x.shape[0], w.shape[0]}, "matmul",
        "x [m, k], w [n, k], y [m, n]", {{"x", x}, {"w", w}, {"y", y}});
  return product_call(matmul_kind, x, w, y, spec);
}

Call matmul_dx(const Tensor& dy, const Tensor& w, const Tensor& dx, MatmulSpec spec) {
  check(is_float(dy) && is_matrix(dy) && is_weight(w, Layout::packed_backward) && dy.type == w.type &&
            dy.shape[1] == w.shape[0],
        "matmul_dx", "dy [m, n] and w packed_backward [n, k] of one type", {{"dy", dy}, {"w", w}});
  check(is_float(dx) && is_dense_matrix(dx) && dx.shape == Shape{dy.shape[0], w.shape[1]}, "matmul_dx",
        "dy [m, n], w [n, k], dx [m, k]", {{"dy", dy}, {"w", w}, {"dx", dx}});
  Call call = product_call(matmul_dx_kind, dy, w, dx, spec);
  call.phase = Phase::backward;
  return call;
}

Call matmul_dw(const Tensor& dy, const Tensor& x, const Tensor& dw, MatmulSpec spec) {
  check(is_float(dy) && is_matrix(dy) && is_matrix(x) && dy.type == x.type && dy.shape[0] == x.shape[0],
        "matmul_dw", "dy [m, n] and x [m, k] of one type", {{"dy", dy}, {"x", x}});
  check(is_gradient(dw, x.type) && is_dense_matrix(dw) && dw.shape == Shape{dy.shape[1], x.shape[1]},
        "matmul_dw", "dy [m, n], x [m, k], dw f32[n, k]", {{"dy", dy}, {"x", x}, {"dw", dw}});
  Call call = product_call(matmul_dw_kind, dy, x, dw, spec);
  call.phase = Phase::backward;
  return call;
}

Call pack(std::span<const Tensor> parts, const Tensor& packed) {
  check(is_float(packed) && packed.shape.rank() == 2, "pack", "packed is a matrix of floats",
        {{"packed", packed}});
  Call call{&pack_kind, {}, {}, {}, {}};
  call.operands.reserve(parts.size() + 1);
  int64_t rows = 0;
  for (const Tensor& part : parts) {
    check(is_float(part) && is_dense_matrix(part) && part.shape[1] == packed.shape[1] &&
              (part.type == packed.type || part.type == DType::f32),
          "pack", "part plain [n_i, k], f32 or of packed's type, and packed [n, k]",
          {{"part", part}, {"packed", packed}});
    rows += part.shape[0];
    call.operands.push_back({part, Access::in});
  }
  check(rows == packed.shape[0], "pack", "the rows of all parts together are those of packed",
        {{"packed", packed}});
  call.operands.push_back({packed, Access::out});
  return call;
}

}  // namespace toroid::op
