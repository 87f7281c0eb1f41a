#include "core/device/cpu/loss_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/loss_rows.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

float max_of(const float* z, int64_t n) {
  const int64_t step = lanes();
  if (n < step) {
    float top = z[0];
    for (int64_t i = 1; i < n; ++i) top = z[i] > top ? z[i] : top;
    return top;
  }
  Floats top = load(z);
  for (int64_t i = step; i + step <= n; i += step) top = hn::Max(top, load(z + i));
  top = hn::Max(top, load(z + n - step));
  return hn::GetLane(hn::MaxOfLanes(FloatTag(), top));
}

template <class T>
void exponentials_as(const LogitRows& r) {
  const int64_t columns = r.columns - r.padding;
  for (int64_t i = 0; i < r.rows; ++i) {
    float* z = r.z + i * r.columns;
    if (r.padding > 0) {
      const auto bytes = static_cast<size_t>(r.padding) * sizeof(T);
      if (r.p != nullptr) std::memset(static_cast<T*>(r.p) + i * r.stride + columns, 0, bytes);
      if (r.slope != nullptr) std::memset(static_cast<T*>(r.slope) + i * r.stride + columns, 0, bytes);
    }
    if (columns == 0) {
      const Normaliser none;
      r.max[i] = r.given_max == nullptr ? none.max : r.given_max[i];
      r.sum[i] = none.sum;
      continue;
    }
    if (r.softcap > 0) {
      T* slope = r.slope == nullptr ? nullptr : static_cast<T*>(r.slope) + i * r.stride;
      const Floats cap = splat(r.softcap), inverse = splat(1 / r.softcap), one = splat(1);
      sweep(columns, [&](int64_t j, auto span) {
        const Floats t = tanh(hn::Mul(load(z + j, span), inverse));
        store(hn::Mul(cap, t), z + j, span);
        if (slope != nullptr) store(hn::NegMulAdd(t, t, one), slope + j, span);
      });
    }
    const float top = r.given_max == nullptr ? max_of(z, columns) : r.given_max[i];
    r.max[i] = top;
    const Floats tops = splat(top);
    T* p = r.p == nullptr ? nullptr : static_cast<T*>(r.p) + i * r.stride;
    r.sum[i] = sum_over(columns, [&](int64_t j, auto span, Floats sum) {
      const Floats e = exp(hn::Sub(load(z + j, span), tops));
      if (p != nullptr) store(e, p + j, span);
      if constexpr (std::is_same_v<decltype(span), Part>) {
        float kept[HWY_MAX_BYTES / sizeof(float)] = {};
        store(e, kept, span);
        return hn::Add(sum, load(kept));
      } else {
        return hn::Add(sum, e);
      }
    });
  }
}

void exponentials(const LogitRows& r) {
  if (r.bf16) {
    exponentials_as<Bf16>(r);
  } else {
    exponentials_as<float>(r);
  }
}

template <class T>
void logit_gradients_as(const GradientRows& r) {
  for (int64_t i = 0; i < r.rows; ++i) {
    T* p = static_cast<T*>(r.p) + i * r.stride;
    const T* slope = r.slope == nullptr ? nullptr : static_cast<const T*>(r.slope) + i * r.stride;
    const Floats factor = splat(r.factor[i]);
    const int64_t target = r.target[i] - r.first_column;
    const bool here = r.target[i] >= 0 && target >= 0 && target < r.columns;
    const Floats one = splat(1);
    // The target's element in fp32, so that p - 1 is rounded once.
    float special = 0;
    if (here) {
      float p_target[HWY_MAX_BYTES / sizeof(float)], slope_target[HWY_MAX_BYTES / sizeof(float)];
      store(load(p + target, Part{1}), p_target);
      store(slope == nullptr ? one : load(slope + target, Part{1}), slope_target);
      special = (p_target[0] * r.factor[i] - r.scale) * slope_target[0];
    }
    if (slope == nullptr) {
      sweep(r.columns, [&](int64_t j, auto span) { store(hn::Mul(load(p + j, span), factor), p + j, span); });
    } else {
      sweep(r.columns, [&](int64_t j, auto span) {
        store(hn::Mul(hn::Mul(load(p + j, span), factor), load(slope + j, span)), p + j, span);
      });
    }
    if (here) store(splat(special), p + target, Part{1});
  }
}

void logit_gradients(const GradientRows& r) {
  if (r.bf16) {
    logit_gradients_as<Bf16>(r);
  } else {
    logit_gradients_as<float>(r);
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {
HWY_EXPORT(exponentials);
HWY_EXPORT(logit_gradients);
}  // namespace

void exponentials(const LogitRows& rows) {
  HWY_DYNAMIC_DISPATCH(exponentials)(rows);
}

void logit_gradients(const GradientRows& rows) {
  HWY_DYNAMIC_DISPATCH(logit_gradients)(rows);
}

void normalise(float* max, const float* sum, int64_t slices, int64_t rows, int64_t first, int64_t last,
               const float* scale, float* lse) {
  for (int64_t i = first; i < last; ++i) {
    float top = max[i];
    for (int64_t s = 1; s < slices; ++s) top = std::max(top, max[s * rows + i]);
    float total = 0;
    for (int64_t s = 0; s < slices; ++s) total += sum[s * rows + i] * std::exp(max[s * rows + i] - top);
    lse[i] = top + std::log(total);
    if (scale == nullptr) continue;
    for (int64_t s = 0; s < slices; ++s) max[s * rows + i] = *scale * std::exp(max[s * rows + i] - lse[i]);
  }
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
