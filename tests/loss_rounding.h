// What rounding makes of a loss.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace toroid::testing {

// How far a loss may lie from another one whose logits differ so: a token's loss is a difference of two
// numbers that move as its logits do, and the errors of all tokens may lean one way, since the weights are
// rounded once for all. A few losses that were close by luck say less.
inline double loss_rounding(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    squares += d * d;
  }
  return std::sqrt(2 * squares / static_cast<double>(std::max<size_t>(a.size(), 1)));
}

}  // namespace toroid::testing
