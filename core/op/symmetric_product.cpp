// n rows and columns of the result, k contracted.
#include "core/op/symmetric_product.h"

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

Cost symmetric_product_cost(const Call& call) {
  const int64_t n = call[3].shape[0];
  const int64_t k = n == 0 ? 0 : call[0].elements() / n;
  Cost cost = traffic(call);
  cost.products.push_back({n, (n + 1) / 2, k, 1, call[0].type});
  return cost;
}

void symmetric_product_reference(const Call& call) {
  const auto& spec = call.get<SymmetricProductSpec>();
  const Tensor& out = call[3];
  const auto n = static_cast<size_t>(out.shape[0]);
  if (n == 0) return;
  const std::vector<double> a = load(call[0]), b = load(call[1]);
  const size_t k = a.size() / n, row = spec.transposed ? 1 : k, step = spec.transposed ? n : 1;
  const std::vector<double> c = call[2] ? load(call[2]) : std::vector<double>(n * n, 0.0);
  std::vector<double> sums(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = 0;
      for (size_t s = 0; s < k; ++s) sum += a[i * row + s * step] * b[j * row + s * step];
      sum = spec.alpha * sum + spec.beta * c[i * n + j] + (i == j ? spec.gamma : 0);
      sums[i * n + j] = sums[j * n + i] = sum;
    }
  }
  store(out, sums);
}

}  // namespace

constinit const OpKind symmetric_product_kind{
    .name = "symmetric_product", .cost = symmetric_product_cost, .reference = symmetric_product_reference};

Call symmetric_product(const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& out,
                       SymmetricProductSpec spec) {
  check(is_float(a) && is_dense_matrix(a) && is_dense_matrix(b) && a.type == b.type && a.shape == b.shape,
        "symmetric_product", "a and b of one shape and type", {{"a", a}, {"b", b}});
  const int64_t n = a.shape[spec.transposed ? 1 : 0];
  check(is_dense_matrix(out) && is_gradient(out, a.type) && out.shape == Shape{n, n}, "symmetric_product",
        "a [n, k], or [k, n] transposed, and out [n, n], of a's type or f32", {{"a", a}, {"out", out}});
  check(c ? is_dense_matrix(c) && is_gradient(c, a.type) && c.shape == out.shape : spec.beta == 0,
        "symmetric_product", "c like out where beta is not zero", {{"c", c}, {"out", out}});
  return {&symmetric_product_kind,
          {{a, Access::in}, {b, Access::in}, {c, Access::in}, {out, Access::out}},
          spec,
          {},
          {}};
}

}  // namespace toroid::op
