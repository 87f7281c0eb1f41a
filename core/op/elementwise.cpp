#include "core/op/elementwise.h"

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

Cost fill_cost(const Call& call) {
  return traffic(call);
}

void fill_reference(const Call& call) {
  const std::vector<double> values(static_cast<size_t>(call[0].elements()), call.get<FillSpec>().value);
  store(call[0], values);
}

Cost add_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = call[0].elements();
  return cost;
}

void add_reference(const Call& call) {
  const std::vector<double> x = load(call[0]);
  std::vector<double> y = load(call[1]);
  for (size_t i = 0; i < y.size(); ++i) y[i] += x[i];
  store(call[1], y);
}

Cost cast_cost(const Call& call) {
  return traffic(call);
}

void cast_reference(const Call& call) {
  store(call[1], load(call[0]));
}

Cost init_normal_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 80 * call[0].elements();  // ten rounds of Philox and a Box-Muller
  return cost;
}

void init_normal_reference(const Call& call) {
  const auto& spec = call.get<InitSpec>();
  std::vector<double> values(static_cast<size_t>(call[0].elements()));
  uint64_t element = static_cast<uint64_t>(spec.first);
  for (double& value : values) value = spec.stddev * normal(spec.key, element++);
  store(call[0], values);
}

void check_pair(std::string_view op, const Tensor& x, const Tensor& y) {
  check(x.shape == y.shape && is_float(x) && is_float(y) && x.layout == Layout::plain &&
            y.layout == Layout::plain,
        op, "floats of one shape, plain", {{"x", x}, {"y", y}});
}

}  // namespace

constinit const OpKind fill_kind{.name = "fill", .cost = fill_cost, .reference = fill_reference};
constinit const OpKind add_kind{.name = "add", .cost = add_cost, .reference = add_reference};
constinit const OpKind cast_kind{.name = "cast", .cost = cast_cost, .reference = cast_reference};
constinit const OpKind init_normal_kind{
    .name = "init_normal", .cost = init_normal_cost, .reference = init_normal_reference};

Call fill(const Tensor& x, FillSpec spec) {
  check(is_float(x) && x.layout == Layout::plain && x.dense(), "fill", "floats, plain and dense", {{"x", x}});
  return {&fill_kind, {{x, Access::out}}, spec, {}, {}};
}

Call add(const Tensor& x, const Tensor& y) {
  check_pair("add", x, y);
  check(x.dense() && y.dense(), "add", "x and y are dense", {{"x", x}, {"y", y}});
  return {&add_kind, {{x, Access::in}, {y, Access::inout}}, {}, {}, {}};
}

Call cast(const Tensor& x, const Tensor& y) {
  check_pair("cast", x, y);
  return {&cast_kind, {{x, Access::in}, {y, Access::out}}, {}, {}, {}};
}

Call init_normal(const Tensor& x, InitSpec spec) {
  check(is_float(x) && x.layout == Layout::plain && x.dense(), "init_normal", "floats, plain and dense",
        {{"x", x}});
  return {&init_normal_kind, {{x, Access::out}}, spec, {}, {}};
}

}  // namespace toroid::op
