// Vectors of kWidth elements in device memory: 16 bytes at a time where a pointer allows it, or one element.
// They are computed with in fp32.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/device/cuda/numbers.h"

namespace toroid::cuda {

// Elements of T that are 16 bytes.
template <class T>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(T));

template <int kWidth>
struct Floats {
  float v[kWidth];
};

// As in memory: words, or one bf16 in the lower half of a word.
template <class T, int kWidth>
struct Raw {
  static constexpr int kBytes = kWidth * static_cast<int>(sizeof(T)), kWords = kBytes < 4 ? 1 : kBytes / 4;
  static_assert(kBytes % 16 == 0 || kBytes == 8 || kWidth == 1);
  uint32_t w[kWords];
};

template <int kWidth, class T>
TOROID_DEVICE Raw<T, kWidth> load_raw(const T* from) {
  using Vector = Raw<T, kWidth>;
  Vector out;
#ifdef __CUDA_ARCH__
  if constexpr (Vector::kBytes % 16 == 0) {
    TOROID_UNROLL
    for (int part = 0; part < Vector::kBytes / 16; ++part) {
      const uint4 v = reinterpret_cast<const uint4*>(from)[part];
      out.w[4 * part] = v.x;
      out.w[4 * part + 1] = v.y;
      out.w[4 * part + 2] = v.z;
      out.w[4 * part + 3] = v.w;
    }
  } else if constexpr (Vector::kBytes == 8) {
    const uint2 v = *reinterpret_cast<const uint2*>(from);
    out.w[0] = v.x;
    out.w[1] = v.y;
  } else if constexpr (Vector::kBytes == 4) {
    out.w[0] = *reinterpret_cast<const uint32_t*>(from);
  } else {
    out.w[0] = *from;
  }
#else
  out.w[0] = 0;
  std::memcpy(out.w, from, Vector::kBytes);
#endif
  return out;
}

template <int kWidth, class T>
TOROID_DEVICE void store_raw(T* to, const Raw<T, kWidth>& v) {
  using Vector = Raw<T, kWidth>;
#ifdef __CUDA_ARCH__
  // Spelled out: as an assignment of uint4, two stores to rows of one array came out as eight of 4 bytes.
  if constexpr (Vector::kBytes % 16 == 0) {
    TOROID_UNROLL
    for (int part = 0; part < Vector::kBytes / 16; ++part) {
      asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(to + part * kVector<T>),
                   "r"(v.w[4 * part]), "r"(v.w[4 * part + 1]), "r"(v.w[4 * part + 2]), "r"(v.w[4 * part + 3])
                   : "memory");
    }
  } else if constexpr (Vector::kBytes == 8) {
    asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(to), "r"(v.w[0]), "r"(v.w[1]) : "memory");
  } else if constexpr (Vector::kBytes == 4) {
    *reinterpret_cast<uint32_t*>(to) = v.w[0];
  } else {
    *to = static_cast<T>(v.w[0]);
  }
#else
  std::memcpy(to, v.w, Vector::kBytes);
#endif
}

template <class T, int kWidth>
TOROID_DEVICE Floats<kWidth> widen(const Raw<T, kWidth>& raw) {
  Floats<kWidth> out;
  TOROID_UNROLL
  for (int i = 0; i < kWidth; ++i) {
    if constexpr (sizeof(T) == 2) {
      out.v[i] = as_float(i % 2 == 0 ? raw.w[i / 2] << 16 : raw.w[i / 2] & 0xffff0000u);
    } else {
      out.v[i] = as_float(raw.w[i]);
    }
  }
  return out;
}

template <class T, int kWidth>
TOROID_DEVICE Raw<T, kWidth> narrow(const Floats<kWidth>& x) {
  Raw<T, kWidth> out;
  TOROID_UNROLL
  for (int i = 0; i < Raw<T, kWidth>::kWords; ++i) {
    if constexpr (sizeof(T) == 2) {
      out.w[i] = round_pair(x.v[2 * i], kWidth == 1 ? 0.0f : x.v[(2 * i + 1) % kWidth]);
    } else {
      out.w[i] = as_bits(x.v[i]);
    }
  }
  return out;
}

template <int kWidth, class T>
TOROID_DEVICE Floats<kWidth> load(const T* from) {
  return widen<T, kWidth>(load_raw<kWidth>(from));
}
template <int kWidth, class T>
TOROID_DEVICE void store(T* to, const Floats<kWidth>& x) {
  store_raw<kWidth>(to, narrow<T, kWidth>(x));
}

// f(i) into each element.
template <int kWidth, class F>
TOROID_DEVICE Floats<kWidth> make(const F& f) {
  Floats<kWidth> out;
  TOROID_UNROLL
  for (int i = 0; i < kWidth; ++i) out.v[i] = f(i);
  return out;
}

// Whether vectors of 16 bytes can be read at all of them; absent operands are null.
inline bool aligned(std::initializer_list<const void*> addresses) {
  for (const void* const address : addresses) {
    if (reinterpret_cast<uintptr_t>(address) % 16 != 0) return false;
  }
  return true;
}

}  // namespace toroid::cuda
