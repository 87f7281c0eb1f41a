// Update rules with one moment, sums of two arrays and an array over its norm: each streams through once,
// element by element, so the bits depend on nothing but the operands.
#include "core/op/momentum.h"

#include <algorithm>
#include <cmath>

#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"
#include "core/op/combine.h"
#include "core/op/update.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/momentum.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

#ifndef TOROID_CORE_DEVICE_CPU_MOMENTUM_ARGS
#define TOROID_CORE_DEVICE_CPU_MOMENTUM_ARGS
namespace toroid::cpu {

struct MomentumArgs {
  const float* gradient = nullptr;
  float *b = nullptr, *out = nullptr;
  float decay = 0, take = 0;  // take: of the unclipped gradient
  bool nesterov = false;
};

struct LionArgs {
  const float* gradient = nullptr;
  float *w = nullptr, *m = nullptr;
  float clip = 0, beta1 = 0, beta2 = 0, rest1 = 0, rest2 = 0;
  float decay = 0, rate = 0;  // decay: rate * weight_decay
};

// out = alpha x + beta y
struct CombineArgs {
  const void *x = nullptr, *y = nullptr;
  void* out = nullptr;
  bool x_bf16 = false, y_bf16 = false, out_bf16 = false;
  float alpha = 0, beta = 0;
};

}  // namespace toroid::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

void momentum_elements(const MomentumArgs& a, int64_t first, int64_t last) {
  const Floats decay = splat(a.decay), take = splat(a.take);
  const float* const gradient = a.gradient + first;
  float *const b_at = a.b + first, *const out = a.out + first;
  sweep(last - first, [=, nesterov = a.nesterov](int64_t i, auto span) HWY_ATTR {
    const Floats g = hn::Mul(take, load(gradient + i, span));
    const Floats b = hn::MulAdd(decay, load(b_at + i, span), g);
    store(b, b_at + i, span);
    store(nesterov ? hn::MulAdd(decay, b, g) : b, out + i, span);
  });
}

void lion_elements(const LionArgs& a, int64_t first, int64_t last) {
  const Floats clip = splat(a.clip), beta1 = splat(a.beta1), beta2 = splat(a.beta2), rest1 = splat(a.rest1),
               rest2 = splat(a.rest2), decay = splat(a.decay), rate = splat(a.rate);
  const float* const gradient = a.gradient + first;
  float *const w_at = a.w + first, *const m_at = a.m + first;
  sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
    const Floats g = hn::Mul(clip, load(gradient + i, span)), m = load(m_at + i, span),
                 w = load(w_at + i, span);
    const Floats direction = hn::MulAdd(beta1, m, hn::Mul(rest1, g));
    // Nothing where it is zero, and what is no number stays none.
    const Floats sign =
        hn::IfThenElse(hn::Gt(hn::Abs(direction), zero()), hn::CopySign(splat(1.0f), direction), direction);
    store(hn::MulAdd(beta2, m, hn::Mul(rest2, g)), m_at + i, span);
    store(hn::Sub(w, hn::MulAdd(decay, w, hn::Mul(rate, sign))), w_at + i, span);
  });
}

template <class X, class Y, class Out>
void combine_elements_of(const CombineArgs& a, int64_t first, int64_t last) {
  const Floats alpha = splat(a.alpha), beta = splat(a.beta);
  const auto* const x = static_cast<const X*>(a.x) + first;
  const auto* const y = static_cast<const Y*>(a.y) + first;
  auto* const out = static_cast<Out*>(a.out) + first;
  sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
    store(hn::MulAdd(alpha, load(x + i, span), hn::Mul(beta, load(y + i, span))), out + i, span);
  });
}

template <class X, class Y>
void combine_pair(const CombineArgs& a, int64_t first, int64_t last) {
  a.out_bf16 ? combine_elements_of<X, Y, Bf16>(a, first, last)
             : combine_elements_of<X, Y, float>(a, first, last);
}

void combine_elements(const CombineArgs& a, int64_t first, int64_t last) {
  if (a.x_bf16) {
    a.y_bf16 ? combine_pair<Bf16, Bf16>(a, first, last) : combine_pair<Bf16, float>(a, first, last);
  } else {
    a.y_bf16 ? combine_pair<float, Bf16>(a, first, last) : combine_pair<float, float>(a, first, last);
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

using op::Control;

HWY_EXPORT(momentum_elements);
HWY_EXPORT(lion_elements);
HWY_EXPORT(combine_elements);

void momentum(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::MomentumSpec>();
  const auto* const control = call[1].as<const float>();
  if (control[Control::apply] == 0) {
    std::fill_n(call[3].as<float>(), call[3].elements(), 0.0f);
    return;
  }
  const MomentumArgs args{.gradient = call[0].as<const float>(),
                          .b = call[2].as<float>(),
                          .out = call[3].as<float>(),
                          .decay = static_cast<float>(spec.decay),
                          .take = static_cast<float>(spec.take * control[Control::clip]),
                          .nesterov = spec.nesterov};
  const auto kernel = HWY_DYNAMIC_DISPATCH(momentum_elements);
  parallel_ranges(call[0].elements(), 64, 4 * call[0].bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

void lion(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::LionSpec>();
  const auto* const control = call[1].as<const float>();
  if (control[Control::apply] == 0) return;
  const double rate = control[Control::rate];
  const LionArgs args{.gradient = call[0].as<const float>(),
                      .w = call[2].as<float>(),
                      .m = call[3].as<float>(),
                      .clip = control[Control::clip],
                      .beta1 = static_cast<float>(spec.beta1),
                      .beta2 = static_cast<float>(spec.beta2),
                      .rest1 = static_cast<float>(1 - spec.beta1),
                      .rest2 = static_cast<float>(1 - spec.beta2),
                      .decay = static_cast<float>(rate * spec.weight_decay),
                      .rate = static_cast<float>(rate)};
  const auto kernel = HWY_DYNAMIC_DISPATCH(lion_elements);
  parallel_ranges(call[0].elements(), 64, 5 * call[0].bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

void run_combine(const Tensor& x, const Tensor& y, const Tensor& out, float alpha, float beta, int threads) {
  const CombineArgs args{.x = x.data(),
                         .y = y.data(),
                         .out = out.data(),
                         .x_bf16 = x.type == DType::bf16,
                         .y_bf16 = y.type == DType::bf16,
                         .out_bf16 = out.type == DType::bf16,
                         .alpha = alpha,
                         .beta = beta};
  const auto kernel = HWY_DYNAMIC_DISPATCH(combine_elements);
  parallel_ranges(x.elements(), 64, x.bytes() + y.bytes() + out.bytes(), threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

void descend(const Call& call, const LaunchContext& context) {
  if (!vector_type(call[0])) return call.kind->reference(call);
  const auto& spec = call.get<op::DescendSpec>();
  const auto* const control = call[1].as<const float>();
  if (control[Control::apply] == 0) return;
  const double rate = control[Control::rate];
  run_combine(call[0], call[2], call[2], static_cast<float>(-rate * spec.scale),
              static_cast<float>(1 - rate * spec.weight_decay), context.threads);
}

void combine(const Call& call, const LaunchContext& context) {
  if (!vector_type(call[0]) || !vector_type(call[1]) || !vector_type(call[2]))
    return call.kind->reference(call);
  const auto& spec = call.get<op::CombineSpec>();
  run_combine(call[0], call[1], call[2], static_cast<float>(spec.alpha), static_cast<float>(spec.beta),
              context.threads);
}

void unit_norm(const Call& call, const LaunchContext& context) {
  if (!vector_type(call[0]) || !vector_type(call[2])) return call.kind->reference(call);
  double squares = 0;
  for (int64_t i = 0; i < call[1].elements(); ++i) squares += call[1].as<const float>()[i];
  // Not std::max, which drops what is no number.
  const double epsilon = call.get<op::UnitNormSpec>().epsilon, root = std::sqrt(squares);
  const double norm = root < epsilon ? epsilon : root;
  run_combine(call[0], call[0], call[2], static_cast<float>(1 / norm), 0.0f, context.threads);
}

}  // namespace

void add_momentum_kernels(KernelRegistry& registry) {
  registry.add(op::momentum_kind, {momentum});
  registry.add(op::descend_kind, {descend});
  registry.add(op::lion_kind, {lion});
  registry.add(op::combine_kind, {combine});
  registry.add(op::unit_norm_kind, {unit_norm});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
