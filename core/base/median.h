// The middle value; of an even number of values the mean of the two in the middle.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "core/base/error.h"

namespace toroid {

// The median of the `count` values that at(i) gives in rising order.
template <class At>
double median_of_sorted(size_t count, const At& at) {
  require(count > 0, "a median is of at least one value");
  return 0.5 * (at((count - 1) / 2) + at(count / 2));
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return median_of_sorted(values.size(), [&](size_t i) { return values[i]; });
}

}  // namespace toroid
