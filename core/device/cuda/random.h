// core/base/random.h's generator and core/op/stochastic.h's rounding, for kernels.
#pragma once

#include <cstdint>

#include "core/device/cuda/numbers.h"
#include "core/op/stochastic.h"

namespace toroid::cuda {

struct RandomBlock {
  uint32_t c[4];
};

TOROID_DEVICE RandomBlock philox(uint32_t low, uint32_t high, uint64_t step, uint64_t index) {
  uint32_t k0 = low, k1 = high, c0 = static_cast<uint32_t>(index), c1 = static_cast<uint32_t>(index >> 32),
           c2 = static_cast<uint32_t>(step), c3 = static_cast<uint32_t>(step >> 32);
  TOROID_UNROLL
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c3 = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The words of elements i to i + kWidth - 1 of a run: a block of four is drawn once.
template <int kWidth>
struct RoundingWords {
  uint32_t w[kWidth];
};

TOROID_DEVICE int64_t index_in_tensor(const op::RunIndex& run, int64_t i) {
  const int64_t place = run.start + i;
  return run.stride == 0 ? place : place / run.width * run.stride + run.column + place % run.width;
}

template <int kWidth>
TOROID_DEVICE RoundingWords<kWidth> rounding_words(const op::Rounding& rounding, uint64_t updates,
                                                   int64_t i) {
  RoundingWords<kWidth> out;
  RandomBlock block{};
  int64_t drawn = -1;
  TOROID_UNROLL
  for (int j = 0; j < kWidth; ++j) {
    const int64_t element = index_in_tensor(rounding.index, i + j);
    if (element / 4 != drawn) {
      drawn = element / 4;
      block = philox(rounding.key.low, rounding.key.high, updates, static_cast<uint64_t>(drawn));
    }
    const uint32_t even = (element & 2) != 0 ? block.c[2] : block.c[0],
                   odd = (element & 2) != 0 ? block.c[3] : block.c[1];
    out.w[j] = (element & 1) != 0 ? odd : even;
  }
  return out;
}

// The value that bf16 keeps: a store rounds it no further.
TOROID_DEVICE float rounded_by(float value, uint32_t random) {
  const uint32_t bits = as_bits(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) return value;  // what is not finite, the store keeps so
  return as_float((bits + random) & 0xffff0000u);
}

}  // namespace toroid::cuda
