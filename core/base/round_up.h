#pragma once

#include <cstdint>

namespace toroid {

// How many times `divisor` it takes to reach `value`; neither is negative.
constexpr int64_t divide_up(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

// The smallest multiple that is not below `value`.
constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return divide_up(value, multiple) * multiple;
}

}  // namespace toroid
