#include "core/op/outer.h"

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

Cost outer_gradient_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = call[0].elements();
  return cost;
}

void outer_gradient_reference(const Call& call) {
  std::vector<double> shared = load(call[0]);
  const std::vector<double> master = load(call[1]);
  for (size_t i = 0; i < shared.size(); ++i) shared[i] -= master[i];
  store(call[2], shared);
}

Cost nesterov_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 6 * call[0].elements();
  return cost;
}

void nesterov_reference(const Call& call) {
  const auto& spec = call.get<NesterovSpec>();
  const std::vector<double> gradient = load(call[0]);
  std::vector<double> shared = load(call[1]), momentum = load(call[2]);
  for (size_t i = 0; i < shared.size(); ++i) {
    const double g = gradient[i] / static_cast<double>(spec.pods);
    momentum[i] = spec.momentum * momentum[i] + g;
    shared[i] -= spec.learning_rate * (g + spec.momentum * momentum[i]);
  }
  store(call[1], shared);
  store(call[2], momentum);
  store(call[3], shared);
}

bool fits(const Tensor& t, int64_t n) {
  return t.type == DType::f32 && is_vector(t, n) && t.dense();
}

}  // namespace

constinit const OpKind outer_gradient_kind{
    .name = "outer_gradient", .cost = outer_gradient_cost, .reference = outer_gradient_reference};
constinit const OpKind nesterov_kind{
    .name = "nesterov", .cost = nesterov_cost, .reference = nesterov_reference};

Call outer_gradient(const Tensor& shared, const Tensor& master, const Tensor& gradient) {
  const int64_t n = shared.elements();
  check(fits(shared, n) && fits(master, n) && fits(gradient, n), "outer_gradient", "all f32[n]",
        {{"shared", shared}, {"master", master}, {"gradient", gradient}});
  return {&outer_gradient_kind,
          {{shared, Access::in}, {master, Access::in}, {gradient, Access::out}},
          {},
          {},
          Phase::optimizer};
}

Call nesterov(const Tensor& gradient, const Tensor& shared, const Tensor& momentum, const Tensor& master,
              NesterovSpec spec) {
  const int64_t n = gradient.elements();
  check(fits(gradient, n) && fits(shared, n) && fits(momentum, n) && fits(master, n), "nesterov",
        "all f32[n]",
        {{"gradient", gradient}, {"shared", shared}, {"momentum", momentum}, {"master", master}});
  return {&nesterov_kind,
          {{gradient, Access::in}, {shared, Access::inout}, {momentum, Access::inout}, {master, Access::out}},
          spec,
          {},
          Phase::optimizer};
}

}  // namespace toroid::op
