#include "core/op/reduce.h"

#include <algorithm>

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

Cost sum_squares_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 2 * call[0].elements();
  return cost;
}

void sum_squares_reference(const Call& call) {
  const std::vector<double> x = load(call[0]);
  std::vector<double> partial(static_cast<size_t>(call[1].elements()), 0.0);
  for (size_t i = 0; i < x.size(); ++i) partial[i / static_cast<size_t>(kReduceBlock)] += x[i] * x[i];
  store(call[1], partial);
}

Cost sum_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = call[0].elements();
  return cost;
}

void sum_reference(const Call& call) {
  std::vector<double> total = call.get<SumSpec>().accumulate ? load(call[1]) : std::vector<double>{0.0};
  for (const double x : load(call[0])) total[0] += x;
  store(call[1], total);
}

void check_vector(std::string_view op, const Tensor& x) {
  check(is_float(x) && x.shape.rank() == 1 && x.dense(), op, "x is a dense vector", {{"x", x}});
}

}  // namespace

constinit const OpKind sum_squares_kind{
    .name = "sum_squares", .cost = sum_squares_cost, .reference = sum_squares_reference};
constinit const OpKind sum_kind{.name = "sum", .cost = sum_cost, .reference = sum_reference};

Call sum_squares(const Tensor& x, const Tensor& partial) {
  check_vector("sum_squares", x);
  check(is_exact(partial, x.type) && is_vector(partial, reduce_blocks(x.shape[0])), "sum_squares",
        "one partial for each block of 4096 elements", {{"x", x}, {"partial", partial}});
  return {&sum_squares_kind, {{x, Access::in}, {partial, Access::out}}, {}, {}, Phase::optimizer};
}

Call sum(const Tensor& x, const Tensor& total, SumSpec spec) {
  check_vector("sum", x);
  check(is_exact(total, x.type) && is_vector(total, 1), "sum", "total is f32[1]", {{"total", total}});
  return {&sum_kind,
          {{x, Access::in}, {total, spec.accumulate ? Access::inout : Access::out}},
          spec,
          {},
          Phase::forward};
}

}  // namespace toroid::op
