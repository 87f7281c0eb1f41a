// The MLP's activation and its gradient. M tokens, F ffn hidden per branch.
#include "core/op/activation.h"

#include "core/device/cpu/matrix.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/vector_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/activation.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

#ifndef TOROID_CORE_DEVICE_CPU_ACTIVATION_ARGS
#define TOROID_CORE_DEVICE_CPU_ACTIVATION_ARGS
namespace toroid::cpu {

struct ActivationArgs {
  bool bf16 = false;
  op::ActivationSpec spec;
  int64_t F = 0;
  Matrix pre, act, d_act, d_pre;
};

}  // namespace toroid::cpu
#endif

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

// gelu_tanh(z) = z s(2u) and silu(z) = z s(z) with the logistic function s, since (1 + tanh u) / 2 = s(2u):
// no digits cancel where z is negative. s(v) = 1 / (1 + e), e = 2^(-v / ln 2). z is clamped where e nears the
// ends of fp32's range; s is then 1 or below 1e-36.
template <op::Activation kActivation>
struct Gate;

template <>
struct Gate<op::Activation::silu> {
  static constexpr float kLimit = 85.0f;

  template <bool kExact>
  static HWY_INLINE Floats exponential(Floats z) {
    const Floats t = hn::Mul(z, splat(-kLog2E));
    if constexpr (!kExact) return exp2_core<4>(t, zero());
    const Floats rest = hn::MulAdd(z, splat(-kLog2ERest), hn::MulSub(z, splat(-kLog2E), t));
    return exp2_core<6>(t, rest);
  }
  static HWY_INLINE Floats slope(Floats) { return splat(1.0f); }
};

template <>
struct Gate<op::Activation::gelu_tanh> {
  static constexpr float kLimit = 9.9f;
  // -2 sqrt(2/pi) / ln 2 and 0.044715 times that, each in two pieces.
  static constexpr float kA = -2.302208185195923f, kARest = -1.2948402350332344e-08f;
  static constexpr float kB = -0.10294324159622192f, kBRest = 2.016198541454628e-09f;

  // t = z (A + B z^2) reaches 120, so an error of half an ulp in it would show in 2^t: exact mode keeps what
  // each rounding loses.
  template <bool kExact>
  static HWY_INLINE Floats exponential(Floats z) {
    const Floats square = hn::Mul(z, z);
    if constexpr (!kExact) {
      return exp2_core<4>(hn::Mul(z, hn::MulAdd(square, splat(kB), splat(kA))), zero());
    }
    const Floats square_rest = hn::MulSub(z, z, square);
    const Floats product = hn::Mul(square, splat(kB));
    Floats lost = hn::MulSub(square, splat(kB), product);
    lost = hn::MulAdd(square_rest, splat(kB), lost);
    lost = hn::MulAdd(square, splat(kBRest), lost);
    // Knuth's exact sum of A and the product.
    const Floats sum = hn::Add(product, splat(kA));
    const Floats a = hn::Sub(sum, product);
    const Floats sum_rest = hn::Add(hn::Sub(product, hn::Sub(sum, a)), hn::Sub(splat(kA), a));
    lost = hn::Add(lost, hn::Add(sum_rest, splat(kARest)));
    const Floats t = hn::Mul(z, sum);
    const Floats rest = hn::MulAdd(z, lost, hn::MulSub(z, sum, t));
    return exp2_core<6>(t, rest);
  }
  // d(2u)/dz
  static HWY_INLINE Floats slope(Floats z) {
    return hn::MulAdd(hn::Mul(z, z), splat(0.21406445f), splat(1.5957691f));
  }
};

struct Activated {
  Floats value, derivative;
};

// f(z) and, where asked for, f'(z) = s + z s (1 - s) d(2u)/dz with 1 - s = e s.
template <op::Activation kActivation, bool kExact, bool kDerivative>
HWY_INLINE Activated activated(Floats z) {
  if constexpr (kActivation == op::Activation::relu) {
    // A NaN passes: it is not below zero.
    const auto below = hn::Lt(z, zero());
    const auto positive = hn::Gt(z, zero());
    return {hn::IfThenZeroElse(below, z), hn::IfThenElseZero(positive, splat(1.0f))};
  } else {
    using G = Gate<kActivation>;
    const Floats inside = at_least(-G::kLimit, at_most(G::kLimit, z));
    const Floats e = G::template exponential<kExact>(inside);
    const Floats s = hn::Div(splat(1.0f), hn::Add(e, splat(1.0f)));
    const Floats value = hn::Mul(z, s);
    if constexpr (!kDerivative) return {value, value};
    const Floats rise = hn::Mul(hn::Mul(value, hn::Mul(e, s)), G::slope(inside));
    return {value, hn::Add(s, rise)};
  }
}

template <class T, op::Activation kActivation, bool kGated>
HWY_INLINE void activate_row(const T* pre, int64_t F, T* act) {
  constexpr bool kExact = sizeof(T) == sizeof(float);
  const auto value = [](Floats z, Floats up) HWY_ATTR {
    const Floats y = activated<kActivation, kExact, false>(z).value;
    return kGated ? hn::Mul(y, up) : y;
  };
  const T* const up = pre + (kGated ? F : 0);
  sweep_pairs(
      F,
      [=](int64_t i) HWY_ATTR {
        const FloatPair z = load_pair(pre + i), u = load_pair(up + i);
        store_pair({value(z.first, u.first), value(z.second, u.second)}, act + i);
      },
      [=](int64_t i, auto span)
          HWY_ATTR { store(value(load(pre + i, span), load(up + i, span)), act + i, span); });
}

struct GradOut {
  Floats gate, up, act;
};

template <op::Activation kActivation, bool kExact, bool kGated>
HWY_INLINE GradOut activation_grad(Floats d, Floats z, Floats up) {
  const Activated f = activated<kActivation, kExact, true>(z);
  if constexpr (!kGated) return {hn::Mul(d, f.derivative), zero(), f.value};
  return {hn::Mul(hn::Mul(d, up), f.derivative), hn::Mul(d, f.value), hn::Mul(f.value, up)};
}

template <class T, op::Activation kActivation, bool kGated, bool kAgain>
HWY_INLINE void activate_grad_row(const T* d_act, const T* pre, int64_t F, T* d_pre, T* act) {
  constexpr bool kExact = sizeof(T) == sizeof(float);
  const T* const up = pre + (kGated ? F : 0);
  T* const d_up = d_pre + F;
  sweep_pairs(
      F,
      [=](int64_t i) HWY_ATTR {
        const FloatPair d = load_pair(d_act + i), z = load_pair(pre + i), u = load_pair(up + i);
        const GradOut a = activation_grad<kActivation, kExact, kGated>(d.first, z.first, u.first);
        const GradOut b = activation_grad<kActivation, kExact, kGated>(d.second, z.second, u.second);
        store_pair({a.gate, b.gate}, d_pre + i);
        if constexpr (kGated) store_pair({a.up, b.up}, d_up + i);
        if constexpr (kAgain) store_pair({a.act, b.act}, act + i);
      },
      [=](int64_t i, auto span) HWY_ATTR {
        const GradOut out = activation_grad<kActivation, kExact, kGated>(
            load(d_act + i, span), load(pre + i, span), load(up + i, span));
        store(out.gate, d_pre + i, span);
        if constexpr (kGated) store(out.up, d_up + i, span);
        if constexpr (kAgain) store(out.act, act + i, span);
      });
}

template <class T, op::Activation kActivation, bool kGated>
void activation_rows_of(const ActivationArgs& a, int64_t first, int64_t last) {
  for (int64_t m = first; m < last; ++m) {
    const T* const pre = a.pre.row<const T>(m);
    T* const act = a.act.row<T>(m);
    if (!a.d_act) {
      activate_row<T, kActivation, kGated>(pre, a.F, act);
      continue;
    }
    const T* const d_act = a.d_act.row<const T>(m);
    T* const d_pre = a.d_pre.row<T>(m);
    if (act != nullptr) {
      activate_grad_row<T, kActivation, kGated, true>(d_act, pre, a.F, d_pre, act);
    } else {
      activate_grad_row<T, kActivation, kGated, false>(d_act, pre, a.F, d_pre, act);
    }
  }
}

template <class T, op::Activation kActivation>
void activation_rows_as(const ActivationArgs& a, int64_t first, int64_t last) {
  a.spec.gated ? activation_rows_of<T, kActivation, true>(a, first, last)
               : activation_rows_of<T, kActivation, false>(a, first, last);
}

template <op::Activation kActivation>
void activation_rows_with(const ActivationArgs& a, int64_t first, int64_t last) {
  a.bf16 ? activation_rows_as<Bf16, kActivation>(a, first, last)
         : activation_rows_as<float, kActivation>(a, first, last);
}

void activation_rows(const ActivationArgs& a, int64_t first, int64_t last) {
  switch (a.spec.activation) {
    case op::Activation::gelu_tanh:
      return activation_rows_with<op::Activation::gelu_tanh>(a, first, last);
    case op::Activation::silu:
      return activation_rows_with<op::Activation::silu>(a, first, last);
    case op::Activation::relu:
      return activation_rows_with<op::Activation::relu>(a, first, last);
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(activation_rows);

void run_rows(const Call& call, ActivationArgs args, const Tensor& pre, int threads) {
  args.bf16 = pre.type == DType::bf16;
  args.spec = call.get<op::ActivationSpec>();
  args.F = args.spec.gated ? pre.columns() / 2 : pre.columns();
  args.pre = Matrix(pre);
  const auto kernel = HWY_DYNAMIC_DISPATCH(activation_rows);
  parallel_ranges(pre.rows(), 1, 2 * pre.bytes(), threads,
                  [&](Range range) { kernel(args, range.first, range.last); });
}

void activate(const Call& call, const LaunchContext& context) {
  if (!one_type({&call[0], &call[1]})) return call.kind->reference(call);
  ActivationArgs args;
  args.act = Matrix(call[1]);
  run_rows(call, args, call[0], context.threads);
}

void activate_grad(const Call& call, const LaunchContext& context) {
  if (!one_type({&call[0], &call[1], &call[2], &call[3]})) return call.kind->reference(call);
  ActivationArgs args;
  args.d_act = Matrix(call[0]);
  args.d_pre = Matrix(call[2]);
  args.act = Matrix(call[3]);
  run_rows(call, args, call[1], context.threads);
}

}  // namespace

void add_activation_kernels(KernelRegistry& registry) {
  registry.add(op::activate_kind, {activate});
  registry.add(op::activate_grad_kind, {activate_grad});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
