// M tokens, F ffn hidden per branch.
#include "core/op/activation.h"

#include "core/op/check.h"
#include "core/op/reference.h"

namespace toroid::op {
namespace {

Cost activate_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 12 * call[1].elements();
  return cost;
}

void activate_reference(const Call& call) {
  const auto& spec = call.get<ActivationSpec>();
  const std::vector<double> pre = load(call[0]);
  const size_t M = static_cast<size_t>(call[1].shape[0]), F = static_cast<size_t>(call[1].shape[1]);
  std::vector<double> act(M * F);
  const auto at = description_of(spec.activation).at;
  for (size_t m = 0; m < M; ++m) {
    for (size_t f = 0; f < F; ++f) {
      const double* row = &pre[m * (spec.gated ? 2 * F : F)];
      const double value = at(row[f]).value;
      act[m * F + f] = spec.gated ? value * row[F + f] : value;
    }
  }
  store(call[1], act);
}

Cost activate_grad_cost(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = 24 * call[0].elements();
  return cost;
}

void activate_grad_reference(const Call& call) {
  const auto& spec = call.get<ActivationSpec>();
  const std::vector<double> d_act = load(call[0]), pre = load(call[1]);
  const size_t M = static_cast<size_t>(call[0].shape[0]), F = static_cast<size_t>(call[0].shape[1]);
  const size_t width = spec.gated ? 2 * F : F;
  std::vector<double> d_pre(M * width), act(M * F);
  const auto at = description_of(spec.activation).at;
  for (size_t m = 0; m < M; ++m) {
    for (size_t f = 0; f < F; ++f) {
      const double* row = &pre[m * width];
      const activation::Point<double> point = at(row[f]);
      const double d = d_act[m * F + f], up = spec.gated ? row[F + f] : 1;
      d_pre[m * width + f] = d * up * point.slope;
      if (spec.gated) d_pre[m * width + F + f] = d * point.value;
      act[m * F + f] = point.value * up;
    }
  }
  store(call[2], d_pre);
  if (call[3]) store(call[3], act);
}

void check_activation(std::string_view op, const Tensor& pre, const Tensor& act, std::string_view act_name,
                      ActivationSpec spec) {
  check(is_float(pre) && pre.type == act.type && is_dense_matrix(pre) && is_dense_matrix(act) &&
            pre.shape == Shape{act.shape[0], (spec.gated ? 2 : 1) * act.shape[1]},
        op, spec.gated ? "[M, 2F] and [M, F] of one type" : "[M, F] and [M, F] of one type",
        {{"pre", pre}, {act_name, act}});
}

}  // namespace

constinit const OpKind activate_kind{
    .name = "activate", .cost = activate_cost, .reference = activate_reference};
constinit const OpKind activate_grad_kind{
    .name = "activate_grad", .cost = activate_grad_cost, .reference = activate_grad_reference};

Call activate(const Tensor& pre, const Tensor& act, ActivationSpec spec) {
  check_activation("activate", pre, act, "act", spec);
  return {&activate_kind, {{pre, Access::in}, {act, Access::out}}, spec, {}, {}};
}

Call activate_grad(const Tensor& d_act, const Tensor& pre, const Tensor& d_pre, const Tensor& act,
                   ActivationSpec spec) {
  check_activation("activate_grad", pre, d_act, "d_act", spec);
  check_activation("activate_grad", d_pre, d_act, "d_act", spec);
  if (act) check_activation("activate_grad", pre, act, "act", spec);
  return {&activate_grad_kind,
          {{d_act, Access::in}, {pre, Access::in}, {d_pre, Access::out}, {act, Access::out}},
          spec,
          {},
          Phase::backward};
}

}  // namespace toroid::op
