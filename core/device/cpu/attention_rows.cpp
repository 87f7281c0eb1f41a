#include "core/device/cpu/attention_rows.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/attention_rows.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

// e^x of a score below its maximum: for bf16 a shorter polynomial does, and what is below 2^-126 is as good
// as nothing.
template <class T>
HWY_INLINE Floats exp_of_score(Floats x) {
  if constexpr (std::is_same_v<T, float>) return exp(x);
  const Floats t = at_most(126.0f, at_least(-126.0f, hn::Mul(x, splat(kLog2E))));
  return exp2_core<5>(t, zero());
}

template <bool kCapped>
HWY_INLINE Floats score_of(Floats z, Floats scale, Floats cap, Floats inverse_cap) {
  const Floats x = hn::Mul(z, scale);
  if constexpr (!kCapped) return x;
  return hn::Mul(cap, tanh(hn::Mul(x, inverse_cap)));
}

template <class T, bool kCapped>
void softmax_as(const SoftmaxRows& r) {
  const Floats scale = splat(r.scale), cap = splat(r.softcap);
  const Floats inverse_cap = splat(kCapped ? 1 / r.softcap : 0);
  for (int64_t i = 0; i < r.rows; ++i) {
    const float* z = r.z + i * r.columns;
    T* p = static_cast<T*>(r.p) + i * r.columns;
    const int64_t begin = std::clamp<int64_t>(r.first[i] - r.key, 0, r.columns);
    const int64_t end = std::clamp<int64_t>(r.last[i] + 1 - r.key, begin, r.columns);
    r.alpha[i] = 1;
    if (begin == end) {
      std::memset(p, 0, static_cast<size_t>(r.columns) * sizeof(T));
      continue;
    }
    // Scores grow with z (the scale is positive), so the maximum is sought before scaling.
    Floats tops = splat(z[begin]);
    int64_t j = begin;
    for (; j + lanes() <= end; j += lanes()) tops = hn::Max(tops, load(z + j));
    float top = hn::GetLane(hn::MaxOfLanes(FloatTag(), tops));
    for (; j < end; ++j) top = std::max(top, z[j]);
    top *= r.scale;
    if (kCapped) top = r.softcap * std::tanh(top / r.softcap);
    if (top > r.max[i]) {
      r.alpha[i] = std::exp(r.max[i] - top);
      r.max[i] = top;
    }
    const Floats most = splat(r.max[i]);
    std::memset(p, 0, static_cast<size_t>(begin) * sizeof(T));
    std::memset(p + end, 0, static_cast<size_t>(r.columns - end) * sizeof(T));
    const float sum = sum_over(end - begin, [&](int64_t k, auto span, Floats total) {
      const Floats s = score_of<kCapped>(load(z + begin + k, span), scale, cap, inverse_cap);
      const Floats e = exp_of_score<T>(hn::Sub(s, most));
      store(e, p + begin + k, span);
      if constexpr (std::is_same_v<decltype(span), Part>) {
        float kept[HWY_MAX_BYTES / sizeof(float)] = {};
        store(e, kept, span);
        return hn::Add(total, load(kept));
      } else {
        return hn::Add(total, e);
      }
    });
    r.sum[i] = r.sum[i] * r.alpha[i] + sum;
  }
}

void softmax_block(const SoftmaxRows& r) {
  if (r.bf16) {
    r.softcap > 0 ? softmax_as<Bf16, true>(r) : softmax_as<Bf16, false>(r);
  } else {
    r.softcap > 0 ? softmax_as<float, true>(r) : softmax_as<float, false>(r);
  }
}

void rescale_rows(float* o, const float* alpha, int64_t rows, int64_t columns) {
  for (int64_t i = 0; i < rows; ++i) {
    if (alpha[i] == 1) continue;
    float* row = o + i * columns;
    const Floats factor = splat(alpha[i]);
    sweep(columns, [&](int64_t j, auto span) { store(hn::Mul(load(row + j, span), factor), row + j, span); });
  }
}

void divide_row(const float* from, float divisor, bool bf16, void* to, int64_t columns) {
  const Floats d = splat(divisor);
  sweep(columns, [&](int64_t j, auto span) {
    const Floats v = hn::Div(load(from + j, span), d);
    if (bf16) {
      store(v, static_cast<Bf16*>(to) + j, span);
    } else {
      store(v, static_cast<float*>(to) + j, span);
    }
  });
}

template <class T>
float dot_as(const T* a, const T* b, int64_t n) {
  return sum_over(n, [&](int64_t i, auto span, Floats sum) {
    return hn::MulAdd(load(a + i, span), load(b + i, span), sum);
  });
}

float dot_row(const void* a, const void* b, bool bf16, int64_t n) {
  return bf16 ? dot_as(static_cast<const Bf16*>(a), static_cast<const Bf16*>(b), n)
              : dot_as(static_cast<const float*>(a), static_cast<const float*>(b), n);
}

// One vector of p and ds, of key `key` and the queries from column j on.
struct Pair {
  Floats p, ds;
};

template <class T, bool kCapped, class Span>
HWY_INLINE Pair gradients_at(const ScoreGradients& g, int64_t row, int64_t j, Span span) {
  const float* z = g.z + row * g.queries + j;
  const float* dp = g.dp + row * g.queries + j;
  const Floats scale = splat(g.scale), x = hn::Mul(load(z, span), scale);
  Floats s = x, slope = scale;
  if constexpr (kCapped) {
    const Floats t = tanh(hn::Mul(x, splat(1 / g.softcap)));
    s = hn::Mul(t, splat(g.softcap));
    slope = hn::Mul(scale, hn::NegMulAdd(t, t, splat(1)));
  }
  Floats p = exp_of_score<T>(hn::Sub(s, load(g.lse + j, span)));
  if (g.masked) {
    const hn::RebindToSigned<FloatTag> di;
    // As integers in fp32's lanes; a part's missing lanes load as zero and are not stored.
    const auto first = hn::BitCast(di, load(reinterpret_cast<const float*>(g.first + j), span));
    const auto last = hn::BitCast(di, load(reinterpret_cast<const float*>(g.last + j), span));
    const auto key = hn::Set(di, static_cast<int32_t>(g.key + row));
    const auto hidden = hn::Or(hn::Gt(first, key), hn::Gt(key, last));
    p = hn::IfThenZeroElse(hn::RebindMask(FloatTag(), hidden), p);
  }
  return {p, hn::Mul(hn::Mul(p, hn::Sub(load(dp, span), load(g.delta + j, span))), slope)};
}

HWY_INLINE void store_words(Words words, uint32_t* to, Whole) {
  hn::StoreU(words, WordTag(), to);
}
HWY_INLINE void store_words(Words words, uint32_t* to, Part part) {
  uint32_t padded[HWY_MAX_BYTES / sizeof(uint32_t)];
  hn::StoreU(words, WordTag(), padded);
  std::memcpy(to, padded, static_cast<size_t>(part.count) * sizeof(uint32_t));
}

template <bool kCapped>
void gradients_bf16(const ScoreGradients& g) {
  const WordTag d;
  for (int64_t row = 0; row < g.keys; row += 2) {  // keys come in even numbers
    Bf16* p = static_cast<Bf16*>(g.p) + row * g.queries;
    Bf16* ds = static_cast<Bf16*>(g.ds) + row * g.queries;
    for (int64_t block = 0; block < g.queries; block += g.n_block) {
      uint32_t* const packed = g.packed == nullptr ? nullptr
                                                   : static_cast<uint32_t*>(g.packed) +
                                                         (block * g.padded_keys + row * g.n_block) / 2;
      sweep(std::min(g.n_block, g.queries - block), [&](int64_t i, auto span) {
        const int64_t j = block + i;
        const Pair even = gradients_at<Bf16, kCapped>(g, row, j, span);
        const Pair odd = gradients_at<Bf16, kCapped>(g, row + 1, j, span);
        store(even.p, p + j, span);
        store(odd.p, p + g.queries + j, span);
        store(even.ds, ds + j, span);
        store(odd.ds, ds + g.queries + j, span);
        const Words low = hn::ShiftRight<16>(round_words(even.ds));
        const Words high = hn::And(round_words(odd.ds), hn::Set(d, 0xffff0000u));
        if (g.packed != nullptr) store_words(hn::Or(low, high), packed + i, span);
      });
    }
  }
}

template <bool kCapped>
void gradients_f32(const ScoreGradients& g) {
  for (int64_t row = 0; row < g.keys; ++row) {
    float* p = static_cast<float*>(g.p) + row * g.queries;
    float* ds = static_cast<float*>(g.ds) + row * g.queries;
    for (int64_t block = 0; block < g.queries; block += g.n_block) {
      float* packed = g.packed == nullptr
                          ? nullptr
                          : static_cast<float*>(g.packed) + block * g.padded_keys + row * g.n_block;
      sweep(std::min(g.n_block, g.queries - block), [&](int64_t i, auto span) {
        const int64_t j = block + i;
        const Pair pair = gradients_at<float, kCapped>(g, row, j, span);
        store(pair.p, p + j, span);
        store(pair.ds, ds + j, span);
        if (packed != nullptr) store(pair.ds, packed + i, span);
      });
    }
  }
}

void score_gradients(const ScoreGradients& g) {
  if (g.bf16) {
    g.softcap > 0 ? gradients_bf16<true>(g) : gradients_bf16<false>(g);
  } else {
    g.softcap > 0 ? gradients_f32<true>(g) : gradients_f32<false>(g);
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {
HWY_EXPORT(softmax_block);
HWY_EXPORT(rescale_rows);
HWY_EXPORT(divide_row);
HWY_EXPORT(dot_row);
HWY_EXPORT(score_gradients);
}  // namespace

void softmax_block(const SoftmaxRows& rows) {
  HWY_DYNAMIC_DISPATCH(softmax_block)(rows);
}
void rescale_rows(float* o, const float* alpha, int64_t rows, int64_t columns) {
  HWY_DYNAMIC_DISPATCH(rescale_rows)(o, alpha, rows, columns);
}
void divide_row(const float* from, float divisor, bool bf16, void* to, int64_t columns) {
  HWY_DYNAMIC_DISPATCH(divide_row)(from, divisor, bf16, to, columns);
}
float dot_row(const void* a, const void* b, bool bf16, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(dot_row)(a, b, bf16, n);
}
void score_gradients(const ScoreGradients& block) {
  HWY_DYNAMIC_DISPATCH(score_gradients)(block);
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
