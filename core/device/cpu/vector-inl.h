// Vector helpers, compiled once for each of Highway's targets: loads that widen bf16 to fp32, stores that
// round to nearest even on every target (Highway 1.0.3 truncates where the machine has no conversion), sums
// in a fixed order, and the few elementary functions. The caller includes hwy/highway.h first.
#if defined(TOROID_CORE_DEVICE_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TOROID_CORE_DEVICE_CPU_VECTOR_INL_H_
#undef TOROID_CORE_DEVICE_CPU_VECTOR_INL_H_
#else
#define TOROID_CORE_DEVICE_CPU_VECTOR_INL_H_
#endif

#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::ScalableTag<float>;
using WordTag = hn::RebindToUnsigned<FloatTag>;
using HalfTag = hn::Rebind<uint16_t, FloatTag>;
using Floats = hn::Vec<FloatTag>;
using Words = hn::Vec<WordTag>;

// bf16 elements are passed as uint16_t: the name of the storage tells loads and stores what to do.
using Bf16 = uint16_t;

HWY_INLINE int64_t lanes() {
  return static_cast<int64_t>(hn::Lanes(FloatTag()));
}
HWY_INLINE Floats splat(float value) {
  return hn::Set(FloatTag(), value);
}
HWY_INLINE Floats zero() {
  return hn::Zero(FloatTag());
}

HWY_INLINE Floats load(const float* from) {
  return hn::LoadU(FloatTag(), from);
}
HWY_INLINE Floats load(const Bf16* from) {
  const Words words = hn::PromoteTo(WordTag(), hn::LoadU(HalfTag(), from));
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(words));
}

// The bits of each lane rounded to bf16, still in the upper half of the word.
HWY_INLINE Words round_words(Floats value) {
  const WordTag d;
  const Words bits = hn::BitCast(d, value);
  const Words odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1));
  const Words nearest = hn::Add(hn::Add(bits, hn::Set(d, 0x7fff)), odd);
  const Words quiet = hn::Or(bits, hn::Set(d, 0x400000));  // adding could carry a NaN into an infinity
  return hn::IfThenElse(hn::RebindMask(d, hn::IsNaN(value)), quiet, nearest);
}

HWY_INLINE void store(Floats value, float* to) {
  hn::StoreU(value, FloatTag(), to);
}
HWY_INLINE void store(Floats value, Bf16* to) {
  hn::StoreU(hn::TruncateTo(HalfTag(), hn::ShiftRight<16>(round_words(value))), HalfTag(), to);
}

// The value that store() would leave in memory for T.
template <class T>
HWY_INLINE Floats rounded(Floats value) {
  if constexpr (sizeof(T) == sizeof(float)) return value;
  const Words kept = hn::And(round_words(value), hn::Set(WordTag(), 0xffff0000u));
  return hn::BitCast(FloatTag(), kept);
}

// A row is swept in whole vectors and at most one part; lanes past the end load as zero and are not stored.
struct Whole {};
struct Part {
  int64_t count;
};

template <class T>
HWY_INLINE Floats load(const T* from, Whole) {
  return load(from);
}
template <class T>
HWY_INLINE Floats load(const T* from, Part part) {
  T padded[HWY_MAX_BYTES / sizeof(float)] = {};
  std::memcpy(padded, from, static_cast<size_t>(part.count) * sizeof(T));
  return load(padded);
}
template <class T>
HWY_INLINE void store(Floats value, T* to, Whole) {
  store(value, to);
}
template <class T>
HWY_INLINE void store(Floats value, T* to, Part part) {
  T padded[HWY_MAX_BYTES / sizeof(float)];
  store(value, padded);
  std::memcpy(to, padded, static_cast<size_t>(part.count) * sizeof(T));
}

// Two vectors of consecutive elements, in an order that is free for elementwise work: a bf16 pair comes out
// of its words as even and odd elements with one operation each.
struct FloatPair {
  Floats first, second;
};

HWY_INLINE FloatPair load_pair(const float* from) {
  return {load(from), load(from + lanes())};
}
// Rounds to nearest even. Every NaN must be one that arithmetic on bf16 made: its low bits are clear, so that
// adding to it cannot carry it into an infinity.
HWY_INLINE void store_pair(FloatPair value, float* to) {
  store(value.first, to);
  store(value.second, to + lanes());
}
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE FloatPair load_pair(const Bf16* from) {
  return {load(from), load(from + lanes())};
}
HWY_INLINE void store_pair(FloatPair value, Bf16* to) {
  store(value.first, to);
  store(value.second, to + lanes());
}
#else
HWY_INLINE FloatPair load_pair(const Bf16* from) {
  const WordTag d;
  const hn::Repartition<Bf16, WordTag> halves;
  const Words words = hn::BitCast(d, hn::LoadU(halves, from));
  return {hn::BitCast(FloatTag(), hn::ShiftLeft<16>(words)),
          hn::BitCast(FloatTag(), hn::And(words, hn::Set(d, 0xffff0000u)))};
}
HWY_INLINE Words nearest_words(Floats value) {
  const WordTag d;
  const Words bits = hn::BitCast(d, value);
  const Words odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1));
  return hn::Add(hn::Add(bits, hn::Set(d, 0x7fff)), odd);
}
HWY_INLINE void store_pair(FloatPair value, Bf16* to) {
  const WordTag d;
  const hn::Repartition<Bf16, WordTag> halves;
  const Words even = hn::ShiftRight<16>(nearest_words(value.first));
  const Words odd = hn::And(nearest_words(value.second), hn::Set(d, 0xffff0000u));
  hn::StoreU(hn::BitCast(halves, hn::Or(even, odd)), halves, to);
}
#endif

// visit(i, Whole or Part) over [0, n).
template <class Visit>
HWY_INLINE void sweep(int64_t n, const Visit& visit) {
  const int64_t step = lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) visit(i, Whole{});
  if (i < n) visit(i, Part{n - i});
}

// whole(i) for each pair of vectors in [0, n), then rest(i, Whole or Part) for what is left.
template <class Whole2, class Rest>
HWY_INLINE void sweep_pairs(int64_t n, const Whole2& whole, const Rest& rest) {
  const int64_t step = 2 * lanes();
  int64_t i = 0;
  for (; i + step <= n; i += step) whole(i);
  sweep(n - i, [&rest, i](int64_t j, auto span) HWY_ATTR { rest(i + j, span); });
}

// The sum over [0, n) of what term(i, span, sum so far) adds, in an order that n alone fixes. Lanes past the
// end must add zero.
template <class Term>
HWY_INLINE float sum_over(int64_t n, const Term& term) {
  const int64_t step = lanes();
  Floats s0 = zero(), s1 = zero(), s2 = zero(), s3 = zero();
  int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    s0 = term(i, Whole{}, s0);
    s1 = term(i + step, Whole{}, s1);
    s2 = term(i + 2 * step, Whole{}, s2);
    s3 = term(i + 3 * step, Whole{}, s3);
  }
  for (; i + step <= n; i += step) s0 = term(i, Whole{}, s0);
  if (i < n) s1 = term(i, Part{n - i}, s1);
  const Floats total = hn::Add(hn::Add(s0, s1), hn::Add(s2, s3));
  return hn::GetLane(hn::SumOfLanes(FloatTag(), total));
}

// 2^t for |t| <= 126, NaN for NaN, with a relative error below 3e-6 (degree 4, for what is rounded to bf16)
// or 2e-7 (degree 5); degree 6 gives 2^(t + rest) for a small `rest`, below 1e-7. Minimax polynomials of 2^f
// on
// [-1/2, 1/2], found by Remez's algorithm.
template <int kDegree>
HWY_INLINE Floats exp2_core(Floats t, Floats rest) {
  static_assert(kDegree >= 4 && kDegree <= 6);
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits, here with the exponent's bias.
  const Floats magic = splat(12582912.0f + 127.0f);
  const Floats shifted = hn::Add(t, magic);
  Floats f = hn::Sub(t, hn::Sub(shifted, magic));
  const Floats power = hn::BitCast(FloatTag(), hn::ShiftLeft<23>(hn::BitCast(WordTag(), shifted)));
  Floats p;
  if constexpr (kDegree == 6) {
    f = hn::Add(f, rest);
    p = hn::MulAdd(splat(0.0001534581242594868f), f, splat(0.0013399930903688073f));
    p = hn::MulAdd(p, f, splat(0.009618489071726799f));
    p = hn::MulAdd(p, f, splat(0.05550328642129898f));
    p = hn::MulAdd(p, f, splat(0.24022646248340607f));
    p = hn::MulAdd(p, f, splat(0.6931471824645996f));
    p = hn::MulAdd(p, f, splat(1.0f));
  } else if constexpr (kDegree == 5) {
    p = hn::MulAdd(splat(0.0013276472454890609f), f, splat(0.009675540961325169f));
    p = hn::MulAdd(p, f, splat(0.05550713092088699f));
    p = hn::MulAdd(p, f, splat(0.24022120237350464f));
    p = hn::MulAdd(p, f, splat(0.6931469440460205f));
    p = hn::MulAdd(p, f, splat(1.0f));
  } else {
    p = hn::MulAdd(splat(0.009570102207362652f), f, splat(0.05591785907745361f));
    p = hn::MulAdd(p, f, splat(0.240247443318367f));
    p = hn::MulAdd(p, f, splat(0.6931217908859253f));
    p = hn::MulAdd(p, f, splat(0.9999992847442627f));
  }
  return hn::Mul(p, power);
}

// 1 / ln 2 in two pieces.
inline constexpr float kLog2E = 1.4426950216293335f, kLog2ERest = 1.925963033500011e-08f;

// The smaller and the larger of a constant and x; NaN for NaN. The constant comes first: x86's minimum and
// maximum return their second operand where one is NaN. Highway's fallback returns the other one.
HWY_INLINE Floats at_most(float limit, Floats x) {
#if HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Lt(splat(limit), x), splat(limit), x);
#else
  return hn::Min(splat(limit), x);
#endif
}

HWY_INLINE Floats at_least(float limit, Floats x) {
#if HWY_TARGET == HWY_SCALAR
  return hn::IfThenElse(hn::Lt(x, splat(limit)), splat(limit), x);
#else
  return hn::Max(splat(limit), x);
#endif
}

// e^x within 2 ulp; 0 below -87.3 (so masked scores vanish), the largest power near the top of the range, NaN
// for NaN.
HWY_INLINE Floats exp(Floats x) {
  constexpr float kLeast = -87.3f;
  const Floats y = at_least(kLeast, at_most(87.3f, x));
  const Floats t = hn::Mul(y, splat(kLog2E));
  const Floats rest = hn::MulAdd(y, splat(kLog2ERest), hn::MulSub(y, splat(kLog2E), t));
  return hn::IfThenZeroElse(hn::Lt(x, splat(kLeast)), exp2_core<6>(t, rest));
}

// tanh(x) within 2 ulp: an odd polynomial near zero (Cephes, tanhf), 1 - 2 / (e^2x + 1) beyond.
HWY_INLINE Floats tanh(Floats x) {
  const Floats size = hn::Abs(x), square = hn::Mul(x, x);
  Floats p = hn::MulAdd(splat(-5.70498872745e-3f), square, splat(2.06390887954e-2f));
  p = hn::MulAdd(p, square, splat(-5.37397155531e-2f));
  p = hn::MulAdd(p, square, splat(1.33314422036e-1f));
  p = hn::MulAdd(p, square, splat(-3.33332819422e-1f));
  const Floats near = hn::MulAdd(hn::Mul(p, square), x, x);
  const Floats e = exp(at_most(40.0f, hn::Add(size, size)));
  const Floats far = hn::Sub(splat(1.0f), hn::Div(splat(2.0f), hn::Add(e, splat(1.0f))));
  return hn::IfThenElse(hn::Lt(size, splat(0.625f)), near, hn::CopySignToAbs(far, x));
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // TOROID_CORE_DEVICE_CPU_VECTOR_INL_H_
