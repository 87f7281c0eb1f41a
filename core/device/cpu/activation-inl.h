// The MLP's activation and its gradient on vectors, compiled once for each of Highway's targets. A file for
// each type of element includes it: together they take a compiler minutes.
#if defined(TOROID_CORE_DEVICE_CPU_ACTIVATION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TOROID_CORE_DEVICE_CPU_ACTIVATION_INL_H_
#undef TOROID_CORE_DEVICE_CPU_ACTIVATION_INL_H_
#else
#define TOROID_CORE_DEVICE_CPU_ACTIVATION_INL_H_
#endif

#include <array>
#include <utility>

#include "core/device/cpu/activation_rows.h"
#include "core/device/cpu/vector-inl.h"
#include "core/op/activation/program.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

// A constant in fp32, and what that loses.
struct Constant {
  explicit constexpr Constant(double exact)
      : value(static_cast<float>(exact)), rest(static_cast<float>(exact - static_cast<float>(exact))) {}
  float value, rest;
};
inline constexpr double kLog2E64 = 1.4426950408889634;  // 1 / ln 2

// e^(a x + b x^3) = 2^t, t = x (A + B x^2) with a, b and so A, B divided by ln 2. t reaches 123, so that an
// error of half an ulp in it would show in 2^t: exact mode keeps what each rounding loses.
template <bool kExact>
HWY_INLINE Floats exp_cubic(Floats x, Constant A, Constant B) {
  if (B.value == 0) {
    const Floats t = hn::Mul(x, splat(A.value));
    if constexpr (!kExact) return exp2_core<4>(t, zero());
    const Floats rest = hn::MulAdd(x, splat(A.rest), hn::MulSub(x, splat(A.value), t));
    return exp2_core<6>(t, rest);
  }
  const Floats square = hn::Mul(x, x);
  if constexpr (!kExact) {
    return exp2_core<4>(hn::Mul(x, hn::MulAdd(square, splat(B.value), splat(A.value))), zero());
  }
  const Floats square_rest = hn::MulSub(x, x, square);
  const Floats product = hn::Mul(square, splat(B.value));
  Floats lost = hn::MulSub(square, splat(B.value), product);
  lost = hn::MulAdd(square_rest, splat(B.value), lost);
  lost = hn::MulAdd(square, splat(B.rest), lost);
  // Knuth's exact sum of A and the product.
  const Floats sum = hn::Add(product, splat(A.value));
  const Floats a = hn::Sub(sum, product);
  const Floats sum_rest = hn::Add(hn::Sub(product, hn::Sub(sum, a)), hn::Sub(splat(A.value), a));
  lost = hn::Add(lost, hn::Add(sum_rest, splat(A.rest)));
  const Floats t = hn::Mul(x, sum);
  const Floats rest = hn::MulAdd(x, lost, hn::MulSub(x, sum, t));
  return exp2_core<6>(t, rest);
}

// e^(a x^2) = 2^(A x^2)
template <bool kExact>
HWY_INLINE Floats exp_square(Floats x, Constant A) {
  const Floats square = hn::Mul(x, x);
  const Floats t = hn::Mul(square, splat(A.value));
  if constexpr (!kExact) return exp2_core<4>(t, zero());
  Floats rest = hn::MulSub(square, splat(A.value), t);
  rest = hn::MulAdd(hn::MulSub(x, x, square), splat(A.value), rest);
  return exp2_core<6>(t, hn::MulAdd(square, splat(A.rest), rest));
}

// p(w) / (t + 3), w = (t - 3) / (t + 3), within 4e-8 before rounding: a minimax polynomial on [0, 12.9],
// found by Remez's algorithm.
HWY_INLINE Floats scaled_normal_tail(Floats t) {
  const Floats above = hn::Add(t, splat(3.0f));
  const Floats w = hn::Div(hn::Sub(t, splat(3.0f)), above);
  Floats p = hn::MulAdd(splat(-0.00027538699214346707f), w, splat(-0.0009163441136479378f));
  p = hn::MulAdd(p, w, splat(0.001078083529137075f));
  p = hn::MulAdd(p, w, splat(0.0069327219389379025f));
  p = hn::MulAdd(p, w, splat(-0.010479171760380268f));
  p = hn::MulAdd(p, w, splat(-0.04725784435868263f));
  p = hn::MulAdd(p, w, splat(0.2300191968679428f));
  p = hn::MulAdd(p, w, splat(-0.5093321800231934f));
  p = hn::MulAdd(p, w, splat(0.7290836572647095f));
  return hn::Div(p, above);
}

HWY_INLINE Floats read(op::activation::Operand operand, const Floats* places) {
  return operand.is_constant() ? splat(static_cast<float>(operand.constant)) : places[operand.place];
}

constexpr bool is_zero(op::activation::Operand operand) {
  return operand.is_constant() && operand.constant == 0;
}

// b where the mask is set, else c; a zero is cheaper than to select one.
template <bool kZeroB, bool kZeroC, class Mask>
HWY_INLINE Floats either(Mask mask, Floats b, Floats c) {
  if constexpr (kZeroB) return hn::IfThenZeroElse(mask, c);
  if constexpr (kZeroC) return hn::IfThenElseZero(mask, b);
  return hn::IfThenElse(mask, b, c);
}

template <class A, size_t kStep, bool kExact>
HWY_INLINE Floats take_step(const Floats* places) {
  using Op = op::activation::Operation;
  constexpr op::activation::Step step = op::activation::program<A>.steps[kStep];
  constexpr double second = step.operands[1].constant, third = step.operands[2].constant;
  const Floats a = read(step.operands[0], places), b = read(step.operands[1], places),
               c = read(step.operands[2], places);
  if constexpr (step.operation == Op::add) {
    return hn::Add(a, b);
  } else if constexpr (step.operation == Op::subtract) {
    return hn::Sub(a, b);
  } else if constexpr (step.operation == Op::multiply) {
    return hn::Mul(a, b);
  } else if constexpr (step.operation == Op::divide) {
    return hn::Div(a, b);
  } else if constexpr (step.operation == Op::multiply_add) {
    return hn::MulAdd(a, b, c);
  } else if constexpr (step.operation == Op::absolute) {
    return hn::Abs(a);
  } else if constexpr (step.operation == Op::clamp) {
    constexpr auto limit = static_cast<float>(second);
    return at_least(-limit, at_most(limit, a));
  } else if constexpr (step.operation == Op::where_negative) {
    return either<is_zero(step.operands[1]), is_zero(step.operands[2])>(hn::Lt(a, zero()), b, c);
  } else if constexpr (step.operation == Op::where_positive) {
    return either<is_zero(step.operands[1]), is_zero(step.operands[2])>(hn::Gt(a, zero()), b, c);
  } else if constexpr (step.operation == Op::exp_cubic) {
    constexpr Constant A1(second * kLog2E64), A3(third * kLog2E64);
    return exp_cubic<kExact>(a, A1, A3);
  } else if constexpr (step.operation == Op::exp_square) {
    constexpr Constant A2(second * kLog2E64);
    return exp_square<kExact>(a, A2);
  } else {
    static_assert(step.operation == Op::scaled_normal_tail);
    return scaled_normal_tail(a);
  }
}

struct Activated {
  Floats value, derivative;
};

// f(z) and f'(z), the steps of A's program one after the other. What is not used of them is not computed.
template <class A, bool kExact, size_t... kSteps>
HWY_INLINE Activated take_steps(Floats z, std::index_sequence<kSteps...>) {
  constexpr op::activation::Operand value = op::activation::program<A>.value,
                                    slope = op::activation::program<A>.slope;
  Floats places[1 + sizeof...(kSteps)];
  places[0] = z;
  ((places[1 + kSteps] = take_step<A, kSteps, kExact>(places)), ...);
  return {read(value, places), read(slope, places)};
}

template <class A, bool kExact>
HWY_INLINE Activated activated(Floats z) {
  return take_steps<A, kExact>(z, std::make_index_sequence<op::activation::program<A>.size>());
}

template <class T, class A, bool kGated>
HWY_INLINE void activate_row(const T* pre, int64_t F, T* act) {
  constexpr bool kExact = sizeof(T) == sizeof(float);
  const auto value = [](Floats z, Floats up) HWY_ATTR {
    const Floats y = activated<A, kExact>(z).value;
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

template <class A, bool kExact, bool kGated>
HWY_INLINE GradOut activation_grad(Floats d, Floats z, Floats up) {
  const Activated f = activated<A, kExact>(z);
  if constexpr (!kGated) return {hn::Mul(d, f.derivative), zero(), f.value};
  return {hn::Mul(hn::Mul(d, up), f.derivative), hn::Mul(d, f.value), hn::Mul(f.value, up)};
}

template <class T, class A, bool kGated, bool kAgain>
HWY_INLINE void activate_grad_row(const T* d_act, const T* pre, int64_t F, T* d_pre, T* act) {
  constexpr bool kExact = sizeof(T) == sizeof(float);
  const T* const up = pre + (kGated ? F : 0);
  T* const d_up = d_pre + F;
  sweep_pairs(
      F,
      [=](int64_t i) HWY_ATTR {
        const FloatPair d = load_pair(d_act + i), z = load_pair(pre + i), u = load_pair(up + i);
        const GradOut a = activation_grad<A, kExact, kGated>(d.first, z.first, u.first);
        const GradOut b = activation_grad<A, kExact, kGated>(d.second, z.second, u.second);
        store_pair({a.gate, b.gate}, d_pre + i);
        if constexpr (kGated) store_pair({a.up, b.up}, d_up + i);
        if constexpr (kAgain) store_pair({a.act, b.act}, act + i);
      },
      [=](int64_t i, auto span) HWY_ATTR {
        const GradOut out = activation_grad<A, kExact, kGated>(load(d_act + i, span), load(pre + i, span),
                                                               load(up + i, span));
        store(out.gate, d_pre + i, span);
        if constexpr (kGated) store(out.up, d_up + i, span);
        if constexpr (kAgain) store(out.act, act + i, span);
      });
}

template <class T, class A, bool kGated>
void activation_rows_of(const ActivationRows& a, int64_t first, int64_t last) {
  for (int64_t m = first; m < last; ++m) {
    const T* const pre = a.pre.present_row<const T>(m);
    if (!a.d_act) {
      activate_row<T, A, kGated>(pre, a.F, a.act.present_row<T>(m));
      continue;
    }
    const T* const d_act = a.d_act.present_row<const T>(m);
    T* const d_pre = a.d_pre.present_row<T>(m);
    if (a.act) {
      activate_grad_row<T, A, kGated, true>(d_act, pre, a.F, d_pre, a.act.present_row<T>(m));
    } else {
      activate_grad_row<T, A, kGated, false>(d_act, pre, a.F, d_pre, nullptr);
    }
  }
}

using RowsKernel = void (*)(const ActivationRows&, int64_t first, int64_t last);

template <class T, class... A>
constexpr std::array<std::array<RowsKernel, 2>, sizeof...(A)> rows_kernels(op::activation::List<A...>) {
  return {{{&activation_rows_of<T, A, false>, &activation_rows_of<T, A, true>}...}};
}

// The rows [first, last) of a call whose elements are T.
template <class T>
void activation_rows_as(const ActivationRows& a, int64_t first, int64_t last) {
  static constexpr auto kKernels = rows_kernels<T>(op::activation::All());
  kKernels.at(static_cast<size_t>(a.spec.activation)).at(a.spec.gated ? 1 : 0)(a, first, last);
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
