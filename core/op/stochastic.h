// Stochastic rounding to bf16, for state that is added to step after step: up or down with the probabilities
// that make the mean exact, so that what is too small to change a rounded value still does so now and then.
//
// The bits are core/base/random.h's for (seed, Purpose::round, tensor, count of updates), counted by the
// index of the element in the whole tensor: they depend neither on the layout nor on where a run was
// interrupted.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "core/base/random.h"

namespace toroid::op {

// Where the elements of a run lie in the whole tensor: one after the other, or, where the model axis splits
// columns, in rows of `width` that are `stride` apart and begin at `column`.
struct RunIndex {
  int64_t start = 0;  // of the run's first element, counted without what lies between the rows
  int64_t width = std::numeric_limits<int64_t>::max();
  int64_t stride = 0, column = 0;
  constexpr int64_t operator()(int64_t i) const {
    const int64_t place = start + i;
    return place / width * stride + column + place % width;
  }
  // How many elements from i on follow one another in the whole tensor.
  constexpr int64_t contiguous(int64_t i) const { return width - (start + i) % width; }
};

struct Rounding {
  RandomKey key;  // its step is the count of updates, which the device knows
  RunIndex index;
};

// The 16 bits that decide are the lower or the upper half of an element's word, so that two states share it.
enum class RandomHalf : unsigned { lower = 0, upper = 16 };

// `random` < 2^16: that much of a unit of the last place is added before the rest is cut off. What is not
// finite stays as it is.
constexpr uint16_t round_stochastically(float value, uint32_t random) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    return static_cast<uint16_t>((bits >> 16) | ((bits & 0x7fffffu) != 0 ? 0x40u : 0u));
  }
  return static_cast<uint16_t>((bits + random) >> 16);
}

// The word of an element with this index in the whole tensor.
inline uint32_t rounding_word(const RandomKey& key, uint64_t updates, int64_t index) {
  const auto element = static_cast<uint64_t>(index);
  return philox({key.low, key.high, updates}, element / 4)[element % 4];
}

}  // namespace toroid::op
