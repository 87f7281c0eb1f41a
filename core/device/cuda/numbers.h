// The arithmetic of kernels, which nvcc and the host's compiler round alike: IEEE operations, fused where
// fma() is written and nowhere else (-fmad=false, -ffp-contract=off), and elementary functions made of them.
// Only what ends in "_fast" differs between the two, in bits that a rounding to bf16 hides.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define TOROID_DEVICE __device__ __forceinline__
#define TOROID_UNROLL _Pragma("unroll")
#define TOROID_ROLLED _Pragma("unroll 1")
#else
#define TOROID_DEVICE inline __attribute__((always_inline))
#define TOROID_UNROLL
#define TOROID_ROLLED
#endif

namespace toroid::cuda {

using Bf16 = uint16_t;  // as bits; the name of the storage tells loads and stores what to do

TOROID_DEVICE float fma(float a, float b, float c) {
#ifdef __CUDA_ARCH__
  return __fmaf_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}
TOROID_DEVICE double fma(double a, double b, double c) {
#ifdef __CUDA_ARCH__
  return __fma_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}
TOROID_DEVICE float inverse(float x) {
  return 1.0f / x;
}
TOROID_DEVICE float root(float x) {
#ifdef __CUDA_ARCH__
  return __fsqrt_rn(x);
#else
  return std::sqrt(x);
#endif
}
TOROID_DEVICE double root(double x) {
#ifdef __CUDA_ARCH__
  return __dsqrt_rn(x);
#else
  return std::sqrt(x);
#endif
}
TOROID_DEVICE float nearest(float x) {
#ifdef __CUDA_ARCH__
  return rintf(x);
#else
  return std::nearbyint(x);
#endif
}
TOROID_DEVICE double nearest(double x) {
#ifdef __CUDA_ARCH__
  return rint(x);
#else
  return std::nearbyint(x);
#endif
}

TOROID_DEVICE float as_float(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
#endif
}
TOROID_DEVICE uint32_t as_bits(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  uint32_t out;
  std::memcpy(&out, &value, sizeof out);
  return out;
#endif
}
TOROID_DEVICE double as_double(uint64_t bits) {
#ifdef __CUDA_ARCH__
  return __longlong_as_double(static_cast<long long>(bits));
#else
  double out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
#endif
}
TOROID_DEVICE uint64_t as_bits(double value) {
#ifdef __CUDA_ARCH__
  return static_cast<uint64_t>(__double_as_longlong(value));
#else
  uint64_t out;
  std::memcpy(&out, &value, sizeof out);
  return out;
#endif
}

TOROID_DEVICE float magnitude(float x) {
  return as_float(as_bits(x) & 0x7fffffffu);
}
TOROID_DEVICE float with_sign_of(float size, float sign) {
  return as_float((as_bits(size) & 0x7fffffffu) | (as_bits(sign) & 0x80000000u));
}
TOROID_DEVICE bool is_finite(double x) {
  return (as_bits(x) & 0x7ff0000000000000u) != 0x7ff0000000000000u;
}

// bf16 is the upper half of an fp32. To nearest even; every NaN becomes 0x7fff, as the GPU has it.
TOROID_DEVICE float from_bf16(Bf16 bits) {
  return as_float(uint32_t{bits} << 16);
}
// Two values, the first in the lower half.
TOROID_DEVICE uint32_t round_pair(float low, float high) {
#ifdef __CUDA_ARCH__
  uint32_t out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
#else
  const auto one = [](float value) -> uint32_t {
    const uint32_t bits = as_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
    return (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  };
  return one(low) | one(high) << 16;
#endif
}
TOROID_DEVICE Bf16 to_bf16(float value) {
  return static_cast<Bf16>(round_pair(value, 0.0f));
}

// The smaller and the larger of a constant and x; NaN for NaN.
TOROID_DEVICE float at_most(float limit, float x) {
  return limit < x ? limit : x;
}
TOROID_DEVICE float at_least(float limit, float x) {
  return x < limit ? limit : x;
}

// 2^t and 1 / x within some 2^-21, for what is rounded to bf16: one instruction each on the GPU.
TOROID_DEVICE float exp2_fast(float t) {
#ifdef __CUDA_ARCH__
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(t));
  return out;
#else
  return std::exp2(t);
#endif
}
TOROID_DEVICE float inverse_fast(float x) {
#ifdef __CUDA_ARCH__
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
#else
  return 1.0f / x;
#endif
}

// tanh x within some 2^-20 of 1, not of itself: for what is added to numbers of that size.
TOROID_DEVICE float tanh_fast(float x) {
  constexpr float kTwiceLog2E = 2.885390043258667f;
  return 1.0f - 2.0f * inverse_fast(exp2_fast(x * kTwiceLog2E) + 1.0f);
}

// 2^(t + rest) for |t| <= 126 and a small rest, NaN for NaN: the polynomial of the CPU's kernels
// (core/device/cpu/vector-inl.h), below 1e-7.
TOROID_DEVICE float exp2_exact(float t, float rest) {
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits with the exponent's bias.
  constexpr float kMagic = 12582912.0f + 127.0f;
  const float shifted = t + kMagic;
  const float power = as_float(as_bits(shifted) << 23), f = (t - (shifted - kMagic)) + rest;
  float p = fma(0.0001534581242594868f, f, 0.0013399930903688073f);
  p = fma(p, f, 0.009618489071726799f);
  p = fma(p, f, 0.05550328642129898f);
  p = fma(p, f, 0.24022646248340607f);
  p = fma(p, f, 0.6931471824645996f);
  p = fma(p, f, 1.0f);
  return p * power;
}

// 1 / ln 2 in two pieces.
inline constexpr float kLog2E = 1.4426950216293335f, kLog2ERest = 1.925963033500011e-08f;

// e^x within 2 ulp; 0 below -87.3, the largest power near the top of the range, NaN for NaN.
TOROID_DEVICE float exp(float x) {
  constexpr float kLeast = -87.3f;
  const float y = at_least(kLeast, at_most(87.3f, x)), t = y * kLog2E;
  const float e = exp2_exact(t, fma(y, kLog2ERest, fma(y, kLog2E, -t)));
  return x < kLeast ? 0.0f : e;
}

// Within 2 ulp: an odd polynomial near zero (Cephes, tanhf), 1 - 2 / (e^2x + 1) beyond.
TOROID_DEVICE float tanh(float x) {
  const float size = magnitude(x), square = x * x;
  float p = fma(-5.70498872745e-3f, square, 2.06390887954e-2f);
  p = fma(p, square, -5.37397155531e-2f);
  p = fma(p, square, 1.33314422036e-1f);
  p = fma(p, square, -3.33332819422e-1f);
  const float near = fma(p * square, x, x);
  const float e = exp(at_most(40.0f, size + size));
  const float far = 1.0f - 2.0f / (e + 1.0f);
  return size < 0.625f ? near : with_sign_of(far, x);
}

// ln x of a normal x > 0, within an ulp (FreeBSD's e_log.c).
TOROID_DEVICE double log(double x) {
  uint64_t bits = as_bits(x);
  // The fraction is taken into [sqrt(1/2), sqrt(2)).
  const auto upper = static_cast<int64_t>(bits - 0x3fe6a09e667f3bcdu) >> 52;
  const auto k = static_cast<double>(upper);
  bits -= static_cast<uint64_t>(upper) << 52;
  const double f = as_double(bits) - 1.0, s = f / (2.0 + f), z = s * s, w = z * z;
  const double t1 =
      w * fma(w, fma(w, 1.531383769920937332e-01, 2.222219843214978396e-01), 3.999999999940941908e-01);
  double t2 = fma(w, 1.479819860511658591e-01, 1.818357216161805012e-01);
  t2 = z * fma(w, fma(w, t2, 2.857142874366239149e-01), 6.666666666666735130e-01);
  const double half = 0.5 * f * f;
  return k * 6.93147180369123816490e-01 -
         ((half - (s * (half + (t1 + t2)) + k * 1.90821492927058770002e-10)) - f);
}

struct SineCosine {
  double sine, cosine;
};
// For |x| up to 2^30, within some 1e-16 (FreeBSD's k_sin.c and k_cos.c after a reduction with fused
// products).
TOROID_DEVICE SineCosine sine_cosine(double x) {
  const double n = nearest(x * 0.63661977236758134308);
  double r = fma(-n, 1.57079632679489655800, x);
  r = fma(-n, 6.12323399573676603587e-17, r);
  const double z = r * r;
  double s = fma(z, 1.58969099521155010221e-10, -2.50507602534068634195e-08);
  s = fma(z, s, 2.75573137070700676789e-06);
  s = fma(z, s, -1.98412698298579493134e-04);
  s = fma(z, s, 8.33333333332248946124e-03);
  s = fma(z, s, -1.66666666666666324348e-01);
  s = fma(z * r, s, r);
  double c = fma(z, -1.13596475577881948265e-11, 2.08757232129817482790e-09);
  c = fma(z, c, -2.75573143513906633035e-07);
  c = fma(z, c, 2.48015872894767294178e-05);
  c = fma(z, c, -1.38888888888741095749e-03);
  c = fma(z, c, 4.16666666666666019037e-02);
  c = fma(z * z, c, fma(z, -0.5, 1.0));
  const auto quarter = static_cast<int64_t>(n) & 3;
  const bool swap = (quarter & 1) != 0;
  const double sine = swap ? c : s, cosine = swap ? s : c;
  return {quarter >= 2 ? -sine : sine, quarter == 1 || quarter == 2 ? -cosine : cosine};
}

// base^count of a whole count, by squaring: within count roundings, and nothing is left of a power whose
// roundings could be seen.
TOROID_DEVICE double power(double base, int64_t count) {
  double out = 1.0;
  for (; count > 0; count >>= 1) {
    if ((count & 1) != 0) out = out * base;
    base = base * base;
  }
  return out;
}

}  // namespace toroid::cuda
