// The MLP's activation and its gradient. M tokens, F ffn hidden per branch. What is rounded to bf16 takes the
// GPU's own exponential and reciprocal: computed as exactly as fp32 is, an element would take longer than
// memory does.
#include <array>
#include <utility>

#include "core/device/cuda/elements.h"
#include "core/device/cuda/types.h"
#include "core/device/cuda/vector_kernels.h"
#include "core/op/activation.h"
#include "core/op/activation/program.h"

namespace toroid::cuda {
namespace {

// A constant in fp32, and what that loses.
struct Constant {
  float value, rest;
};
constexpr Constant constant(double exact) {
  return {static_cast<float>(exact), static_cast<float>(exact - static_cast<float>(exact))};
}
inline constexpr double kLog2E64 = 1.4426950408889634;  // 1 / ln 2

// e^(a x + b x^3) = 2^t, t = x (A + B x^2) with a, b and so A, B divided by ln 2. t reaches 123, so that an
// error of half an ulp in it would show in 2^t: exact mode keeps what each rounding loses.
template <bool kExact>
TOROID_DEVICE float exp_cubic(float x, Constant A, Constant B) {
  const float square = x * x;
  if constexpr (!kExact) {
    return exp2_fast(B.value == 0 ? x * A.value : x * fma(square, B.value, A.value));
  } else {
    if (B.value == 0) {
      const float t = x * A.value;
      return exp2_exact(t, fma(x, A.rest, fma(x, A.value, -t)));
    }
    const float product = square * B.value;
    float lost = fma(square, B.value, -product);
    lost = fma(fma(x, x, -square), B.value, lost);
    lost = fma(square, B.rest, lost);
    // Knuth's exact sum of A and the product.
    const float sum = product + A.value, a = sum - product;
    lost = lost + (((product - (sum - a)) + (A.value - a)) + A.rest);
    const float t = x * sum;
    return exp2_exact(t, fma(x, lost, fma(x, sum, -t)));
  }
}

// e^(a x^2) = 2^(A x^2)
template <bool kExact>
TOROID_DEVICE float exp_square(float x, Constant A) {
  const float square = x * x, t = square * A.value;
  if constexpr (!kExact) {
    return exp2_fast(t);
  } else {
    const float rest = fma(fma(x, x, -square), A.value, fma(square, A.value, -t));
    return exp2_exact(t, fma(square, A.rest, rest));
  }
}

template <bool kExact>
TOROID_DEVICE float divide(float a, float b) {
  return kExact ? a / b : a * inverse_fast(b);
}

// p(w) / (t + 3), w = (t - 3) / (t + 3), within 4e-8 before rounding, as core/device/cpu/activation.cpp has
// it.
template <bool kExact>
TOROID_DEVICE float scaled_normal_tail(float t) {
  const float above = t + 3.0f, w = divide<kExact>(t - 3.0f, above);
  float p = fma(-0.00027538699214346707f, w, -0.0009163441136479378f);
  p = fma(p, w, 0.001078083529137075f);
  p = fma(p, w, 0.0069327219389379025f);
  p = fma(p, w, -0.010479171760380268f);
  p = fma(p, w, -0.04725784435868263f);
  p = fma(p, w, 0.2300191968679428f);
  p = fma(p, w, -0.5093321800231934f);
  p = fma(p, w, 0.7290836572647095f);
  return divide<kExact>(p, above);
}

// Step kStep of A's program, from the results so far: the argument is at place 0.
template <class A, size_t kStep, bool kExact>
TOROID_DEVICE float take_step(const float* places) {
  using Op = op::activation::Operation;
  constexpr op::activation::Step step = op::activation::program<A>.steps[kStep];
  constexpr int place0 = step.operands[0].place, place1 = step.operands[1].place,
                place2 = step.operands[2].place;
  constexpr double second = step.operands[1].constant, third = step.operands[2].constant;
  constexpr auto c0 = static_cast<float>(step.operands[0].constant), c1 = static_cast<float>(second),
                 c2 = static_cast<float>(third);
  const float a = place0 < 0 ? c0 : places[place0 < 0 ? 0 : place0],
              b = place1 < 0 ? c1 : places[place1 < 0 ? 0 : place1],
              c = place2 < 0 ? c2 : places[place2 < 0 ? 0 : place2];
  constexpr Constant A1 = constant(second * kLog2E64), A3 = constant(third * kLog2E64);
  if constexpr (step.operation == Op::add) return a + b;
  if constexpr (step.operation == Op::subtract) return a - b;
  if constexpr (step.operation == Op::multiply) return a * b;
  if constexpr (step.operation == Op::divide) return divide<kExact>(a, b);
  if constexpr (step.operation == Op::multiply_add) return fma(a, b, c);
  if constexpr (step.operation == Op::absolute) return magnitude(a);
  if constexpr (step.operation == Op::clamp) return at_least(-b, at_most(b, a));
  if constexpr (step.operation == Op::where_negative) return a < 0 ? b : c;
  if constexpr (step.operation == Op::where_positive) return a > 0 ? b : c;
  if constexpr (step.operation == Op::exp_cubic) return exp_cubic<kExact>(a, A1, A3);
  if constexpr (step.operation == Op::exp_square) return exp_square<kExact>(a, A1);
  if constexpr (step.operation == Op::scaled_normal_tail) return scaled_normal_tail<kExact>(a);
}

struct Activated {
  float value, slope;
};

// f(z) and f'(z), the steps of A's program one after the other. What is not used of them is not computed.
template <class A, bool kExact, size_t... kSteps>
TOROID_DEVICE Activated take_steps(float z, std::index_sequence<kSteps...>) {
  constexpr op::activation::Operand value = op::activation::program<A>.value,
                                    slope = op::activation::program<A>.slope;
  constexpr int value_place = value.place, slope_place = slope.place;
  constexpr auto value_constant = static_cast<float>(value.constant),
                 slope_constant = static_cast<float>(slope.constant);
  float places[1 + sizeof...(kSteps)];
  places[0] = z;
  ((places[1 + kSteps] = take_step<A, kSteps, kExact>(places)), ...);
  return {value_place < 0 ? value_constant : places[value_place < 0 ? 0 : value_place],
          slope_place < 0 ? slope_constant : places[slope_place < 0 ? 0 : slope_place]};
}

template <class A, bool kExact>
TOROID_DEVICE Activated activated(float z) {
  constexpr size_t kSteps = op::activation::program<A>.size;
  return take_steps<A, kExact>(z, std::make_index_sequence<kSteps>());
}

template <class T>
inline constexpr bool kExactFor = sizeof(T) == sizeof(float);

template <class T, class A>
struct Activate {
  struct Args {
    const T* pre;
    T* act;
    int64_t F;
    bool gated;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t row, int64_t i) {
    const T* const gate = a.pre + row * (a.gated ? 2 * a.F : a.F) + i;
    const auto z = load<kWidth>(gate);
    Floats<kWidth> y;
    TOROID_UNROLL
    for (int j = 0; j < kWidth; ++j) y.v[j] = activated<A, kExactFor<T>>(z.v[j]).value;
    if (a.gated) {
      const auto up = load<kWidth>(gate + a.F);
      TOROID_UNROLL
      for (int j = 0; j < kWidth; ++j) y.v[j] = y.v[j] * up.v[j];
    }
    store<kWidth>(a.act + row * a.F + i, y);
  }
};

template <class T, class A>
struct ActivateGrad {
  struct Args {
    const T *d_act, *pre;
    T *d_pre, *act;
    int64_t F;
    bool gated;
  };
  static constexpr int kWide = kVector<T>;
  TOROID_DEVICE static Nothing begin(const Args&) { return {}; }
  template <int kWidth>
  TOROID_DEVICE static void at(const Args& a, Nothing, int64_t row, int64_t i) {
    const int64_t wide = row * (a.gated ? 2 * a.F : a.F) + i, slim = row * a.F + i;
    const auto d = load<kWidth>(a.d_act + slim), z = load<kWidth>(a.pre + wide);
    Floats<kWidth> up = make<kWidth>([](int) { return 1.0f; });
    if (a.gated) up = load<kWidth>(a.pre + wide + a.F);
    Floats<kWidth> dz, d_up, y;
    TOROID_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      const Activated f = activated<A, kExactFor<T>>(z.v[j]);
      dz.v[j] = d.v[j] * up.v[j] * f.slope;
      d_up.v[j] = d.v[j] * f.value;
      y.v[j] = f.value * up.v[j];
    }
    store<kWidth>(a.d_pre + wide, dz);
    if (a.gated) store<kWidth>(a.d_pre + wide + a.F, d_up);
    if (a.act != nullptr) store<kWidth>(a.act + slim, y);
  }
};

template <class T, class A>
void activate_as(const Call& call, cudaStream_t stream) {
  const Tensor &pre = call[0], &act = call[1];
  launch_rows<Activate<T, A>>(stream,
                              {pre.as<T>(), act.as<T>(), act.columns(), call.get<op::ActivationSpec>().gated},
                              act.rows(), act.columns(), aligned({pre.data(), act.data()}));
}

template <class T, class A>
void activate_grad_as(const Call& call, cudaStream_t stream) {
  const Tensor &d_act = call[0], &pre = call[1], &d_pre = call[2], &act = call[3];
  launch_rows<ActivateGrad<T, A>>(
      stream,
      {d_act.as<T>(), pre.as<T>(), d_pre.as<T>(), pointer<T>(act), d_act.columns(),
       call.get<op::ActivationSpec>().gated},
      d_act.rows(), d_act.columns(),
      aligned({d_act.data(), pre.data(), d_pre.data(), pointer<const void>(act)}));
}

using Run = void (*)(const Call& call, cudaStream_t stream);

template <class T, class... A>
constexpr std::array<Run, sizeof...(A)> forward_of(op::activation::List<A...>) {
  return {&activate_as<T, A>...};
}
template <class T, class... A>
constexpr std::array<Run, sizeof...(A)> backward_of(op::activation::List<A...>) {
  return {&activate_grad_as<T, A>...};
}

size_t place_of(const Call& call) {
  return static_cast<size_t>(call.get<op::ActivationSpec>().activation);
}

void activate(const Call& call, const LaunchContext& context) {
  with_type(call, call[0].type, [&]<class T>(Type<T>) {
    forward_of<T>(op::activation::All()).at(place_of(call))(call, stream_of(context));
  });
}

void activate_grad(const Call& call, const LaunchContext& context) {
  with_type(call, call[0].type, [&]<class T>(Type<T>) {
    backward_of<T>(op::activation::All()).at(place_of(call))(call, stream_of(context));
  });
}

}  // namespace

void add_activation_kernels(KernelRegistry& registry) {
  registry.add(op::activate_kind, {activate});
  registry.add(op::activate_grad_kind, {activate_grad});
}

}  // namespace toroid::cuda
