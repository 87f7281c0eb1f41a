// The update rules: master, moments and gradient stream through once, element by element, so the bits depend
// on nothing but the operands.
#include "core/op/update.h"

#include <cmath>

#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/update.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

#ifndef TOROID_CORE_DEVICE_CPU_UPDATE_ARGS
#define TOROID_CORE_DEVICE_CPU_UPDATE_ARGS
namespace toroid::cpu {

struct AdamWArgs {
  const float* gradient = nullptr;
  float *w = nullptr, *m = nullptr, *v = nullptr;
  float clip = 0, beta1 = 0, beta2 = 0, rest1 = 0, rest2 = 0;  // rest: 1 - beta, subtracted in double
  float decay = 0;                                             // rate * weight_decay
  float step = 0;                                              // rate / (1 - beta1^t)
  float inverse2 = 0;                                          // 1 / (1 - beta2^t)
  float epsilon = 0;
};

struct EmaArgs {
  const float* master = nullptr;
  float* average = nullptr;
  float decay = 0, rest = 0;
};

}  // namespace toroid::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

void adamw_elements(const AdamWArgs& a, int64_t first, int64_t last) {
  const Floats clip = splat(a.clip), beta1 = splat(a.beta1), beta2 = splat(a.beta2), rest1 = splat(a.rest1),
               rest2 = splat(a.rest2), decay = splat(a.decay), step = splat(a.step),
               inverse2 = splat(a.inverse2), epsilon = splat(a.epsilon);
  const float* const gradient = a.gradient + first;
  float *const w_at = a.w + first, *const m_at = a.m + first, *const v_at = a.v + first;
  sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
    const Floats g = hn::Mul(clip, load(gradient + i, span));
    const Floats m = hn::MulAdd(beta1, load(m_at + i, span), hn::Mul(rest1, g));
    const Floats v = hn::MulAdd(beta2, load(v_at + i, span), hn::Mul(rest2, hn::Mul(g, g)));
    const Floats w = load(w_at + i, span);
    const Floats root = hn::Add(hn::Sqrt(hn::Mul(v, inverse2)), epsilon);
    // The change is formed first, so that the weight itself is rounded once.
    const Floats change = hn::MulAdd(decay, w, hn::Div(hn::Mul(step, m), root));
    store(m, m_at + i, span);
    store(v, v_at + i, span);
    store(hn::Sub(w, change), w_at + i, span);
  });
}

void copy_elements(const float* w, bool bf16, void* copy, int64_t first, int64_t last) {
  sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
    if (bf16) {
      store(load(w + first + i, span), static_cast<Bf16*>(copy) + first + i, span);
    } else {
      store(load(w + first + i, span), static_cast<float*>(copy) + first + i, span);
    }
  });
}

void ema_elements(const EmaArgs& a, int64_t first, int64_t last) {
  const Floats decay = splat(a.decay), rest = splat(a.rest);
  const float* const master = a.master + first;
  float* const average = a.average + first;
  sweep(last - first, [=](int64_t i, auto span) HWY_ATTR {
    const Floats mixed = hn::MulAdd(decay, load(average + i, span), hn::Mul(rest, load(master + i, span)));
    store(mixed, average + i, span);
  });
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

using op::Control;
using op::State;

HWY_EXPORT(adamw_elements);
HWY_EXPORT(copy_elements);
HWY_EXPORT(ema_elements);

// A few thousand partial sums and a dozen scalars: the reference, which works in double, is the kernel.
void decide(const Call& call, const LaunchContext&) {
  call.kind->reference(call);
}

void adamw_update(const Call& call, const LaunchContext& context) {
  const auto& spec = call.get<op::AdamWSpec>();
  const auto *const state = call[1].as<const float>(), *const control = call[2].as<const float>();
  if (control[Control::apply] == 0) return;
  const double t = state[State::update_count], rate = spec.rate_scale * control[Control::rate];
  const AdamWArgs args{
      .gradient = call[0].as<const float>(),
      .w = call[3].as<float>(),
      .m = call[4].as<float>(),
      .v = call[5].as<float>(),
      .clip = control[Control::clip],
      .beta1 = static_cast<float>(spec.beta1),
      .beta2 = static_cast<float>(spec.beta2),
      .rest1 = static_cast<float>(1 - spec.beta1),
      .rest2 = static_cast<float>(1 - spec.beta2),
      .decay = static_cast<float>(rate * spec.weight_decay),
      .step = static_cast<float>(rate / (1 - std::pow(spec.beta1, t))),
      .inverse2 = static_cast<float>(1 / (1 - std::pow(spec.beta2, t))),
      .epsilon = static_cast<float>(spec.epsilon),
  };
  const auto kernel = HWY_DYNAMIC_DISPATCH(adamw_elements);
  parallel_ranges(call[0].elements(), 64, 7 * call[0].bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

// A copy is a pass of its own: this device's products read packed weights, and it is not asked for one.
void adamw(const Call& call, const LaunchContext& context) {
  if (call.operands.size() > 6 && !vector_type(call[6])) return call.kind->reference(call);
  adamw_update(call, context);
  if (call.operands.size() <= 6) return;
  const auto* const w = call[3].as<const float>();
  const Tensor& copy = call[6];
  const auto kernel = HWY_DYNAMIC_DISPATCH(copy_elements);
  parallel_ranges(copy.elements(), 64, call[3].bytes() + copy.bytes(), context.threads, [&](Range range) {
    kernel(w, copy.type == DType::bf16, copy.data(), range.first, range.last);
  });
}

void ema(const Call& call, const LaunchContext& context) {
  if (call[1].as<const float>()[Control::apply] == 0) return;
  const double decay = call.get<op::EmaSpec>().decay;
  const EmaArgs args{.master = call[0].as<const float>(),
                     .average = call[2].as<float>(),
                     .decay = static_cast<float>(decay),
                     .rest = static_cast<float>(1 - decay)};
  const auto kernel = HWY_DYNAMIC_DISPATCH(ema_elements);
  parallel_ranges(call[0].elements(), 64, 3 * call[0].bytes(), context.threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

}  // namespace

void add_update_kernels(KernelRegistry& registry) {
  registry.add(op::decide_kind, {decide});
  registry.add(op::adamw_kind, {adamw});
  registry.add(op::ema_kind, {ema});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
