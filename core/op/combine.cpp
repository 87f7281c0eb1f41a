#include "core/op/combine.h"

#include <cmath>

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

Cost combine_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 3 * call[0].elements();
  return cost;
}

void combine_reference(const Call& call) {
  const auto& spec = call.get<CombineSpec>();
  const std::vector<double> x = load(call[0]), y = load(call[1]);
  std::vector<double> out(x.size());
  for (size_t i = 0; i < out.size(); ++i) out[i] = spec.alpha * x[i] + spec.beta * y[i];
  store(call[2], out);
}

Cost unit_norm_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = call[0].elements() + call[1].elements();
  return cost;
}

void unit_norm_reference(const Call& call) {
  double squares = 0;
  for (const double square : load(call[1])) squares += square;
  // Not std::max, which drops what is no number.
  const double root = std::sqrt(squares), epsilon = call.get<UnitNormSpec>().epsilon;
  const double norm = root < epsilon ? epsilon : root;
  std::vector<double> x = load(call[0]);
  for (double& value : x) value /= norm;
  store(call[2], x);
}

bool is_plain(const Tensor& t) {
  return is_float(t) && t.layout == Layout::plain && t.dense();
}

}  // namespace

constinit const OpKind combine_kind{.name = "combine", .cost = combine_cost, .reference = combine_reference};
constinit const OpKind unit_norm_kind{
    .name = "unit_norm", .cost = unit_norm_cost, .reference = unit_norm_reference};

Call combine(const Tensor& x, const Tensor& y, const Tensor& out, CombineSpec spec) {
  check(is_plain(x) && is_plain(y) && is_plain(out) && x.shape == y.shape && x.shape == out.shape, "combine",
        "floats of one shape, plain and dense", {{"x", x}, {"y", y}, {"out", out}});
  return {&combine_kind, {{x, Access::in}, {y, Access::in}, {out, Access::out}}, spec, {}, {}};
}

Call unit_norm(const Tensor& x, const Tensor& squares, const Tensor& y, UnitNormSpec spec) {
  check(is_plain(x) && is_plain(y) && x.shape == y.shape && is_exact(x, x.type), "unit_norm",
        "x f32 and y of one shape, plain and dense", {{"x", x}, {"y", y}});
  check(squares.type == x.type && is_vector(squares, squares.elements()), "unit_norm", "squares f32[P]",
        {{"squares", squares}});
  check(spec.epsilon > 0, "unit_norm", "epsilon > 0", {{"x", x}});
  return {&unit_norm_kind, {{x, Access::in}, {squares, Access::in}, {y, Access::out}}, spec, {}, {}};
}

}  // namespace toroid::op
