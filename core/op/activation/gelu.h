// gelu(z) = z P(z), with the normal distribution P(z) = (1 + erf(z / sqrt 2)) / 2.
#pragma once

#include <array>
#include <string_view>

#include "core/op/activation/arithmetic.h"

namespace toroid::op::activation {

struct Gelu {
  static constexpr std::string_view kName = "GELU";
  static constexpr std::array<std::string_view, 2> kHuggingFace{"gelu", "gelu_python"};

  template <class X>
  static constexpr Point<X> at(X z) {
    // Beyond it P is 1 or below 1e-37.
    const X inside = clamp(z, 12.8);
    const X e = exp_square(inside, -0.5);
    const X tail = e * scaled_normal_tail(absolute(inside));
    const X below = where_negative(inside, tail, 1.0 - tail);
    return {z * below, multiply_add(inside * e, kDensity, below)};
  }

 private:
  static constexpr double kDensity = 0.3989422804014327;  // 1 / sqrt(2 pi)
};

}  // namespace toroid::op::activation
