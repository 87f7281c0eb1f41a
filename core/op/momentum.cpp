#include "core/op/momentum.h"

#include "core/op/check.h"
#include "core/op/reference.h"
#include "core/op/update.h"

namespace toroid::op {
namespace {

template <int kFlops>
Cost cost_of(const Call& call) {
  Cost cost = traffic(call);
  cost.vector_flops = kFlops * call[0].elements();
  return cost;
}

void momentum_reference(const Call& call) {
  const auto& spec = call.get<MomentumSpec>();
  const std::vector<double> gradient = load(call[0]), control = load(call[1]);
  std::vector<double> b = load(call[2]), out(b.size(), 0.0);
  if (control[Control::apply] != 0) {
    for (size_t i = 0; i < b.size(); ++i) {
      const double g = spec.take * control[Control::clip] * gradient[i];
      b[i] = spec.decay * b[i] + g;
      out[i] = spec.nesterov ? g + spec.decay * b[i] : b[i];
    }
    store(call[2], b);
  }
  store(call[3], out);
}

void descend_reference(const Call& call) {
  const auto& spec = call.get<DescendSpec>();
  const std::vector<double> d = load(call[0]), control = load(call[1]);
  if (control[Control::apply] == 0) return;
  std::vector<double> w = load(call[2]);
  for (size_t i = 0; i < w.size(); ++i) {
    w[i] -= control[Control::rate] * (spec.weight_decay * w[i] + spec.scale * d[i]);
  }
  store(call[2], w);
}

double sign(double x) {
  return x > 0 ? 1 : x < 0 ? -1 : x;
}

void lion_reference(const Call& call) {
  const auto& spec = call.get<LionSpec>();
  const std::vector<double> gradient = load(call[0]), control = load(call[1]);
  if (control[Control::apply] == 0) return;
  std::vector<double> w = load(call[2]), m = load(call[3]);
  for (size_t i = 0; i < w.size(); ++i) {
    const double g = control[Control::clip] * gradient[i];
    w[i] -=
        control[Control::rate] * (spec.weight_decay * w[i] + sign(spec.beta1 * m[i] + (1 - spec.beta1) * g));
    m[i] = spec.beta2 * m[i] + (1 - spec.beta2) * g;
  }
  store(call[2], w);
  store(call[3], m);
}

}  // namespace

constinit const OpKind momentum_kind{.name = "momentum", .cost = cost_of<5>, .reference = momentum_reference};
constinit const OpKind descend_kind{.name = "descend", .cost = cost_of<4>, .reference = descend_reference};
constinit const OpKind lion_kind{.name = "lion", .cost = cost_of<9>, .reference = lion_reference};

Call momentum(const Tensor& gradient, const Tensor& control, const Tensor& buffer, const Tensor& out,
              MomentumSpec spec) {
  const int64_t n = gradient.elements();
  check_f32("momentum", gradient, "gradient", n);
  check_f32("momentum", control, "control", kControlSize);
  check_f32("momentum", buffer, "buffer", n);
  check_f32("momentum", out, "out", n);
  return {&momentum_kind,
          {{gradient, Access::in}, {control, Access::in}, {buffer, Access::inout}, {out, Access::out}},
          spec,
          {},
          Phase::optimizer};
}

Call descend(const Tensor& direction, const Tensor& control, const Tensor& master, DescendSpec spec) {
  const int64_t n = direction.elements();
  check(is_float(direction) && is_vector(direction, n) && direction.dense(), "descend", "floats[n], dense",
        {{"direction", direction}});
  check_f32("descend", control, "control", kControlSize);
  check_f32("descend", master, "master", n);
  return {&descend_kind,
          {{direction, Access::in}, {control, Access::in}, {master, Access::inout}},
          spec,
          {},
          Phase::optimizer};
}

Call lion(const Tensor& gradient, const Tensor& control, const Tensor& master, const Tensor& exp_avg,
          LionSpec spec) {
  const int64_t n = gradient.elements();
  check_f32("lion", gradient, "gradient", n);
  check_f32("lion", control, "control", kControlSize);
  check_f32("lion", master, "master", n);
  check_f32("lion", exp_avg, "exp_avg", n);
  return {&lion_kind,
          {{gradient, Access::in}, {control, Access::in}, {master, Access::inout}, {exp_avg, Access::inout}},
          spec,
          {},
          Phase::optimizer};
}

}  // namespace toroid::op
