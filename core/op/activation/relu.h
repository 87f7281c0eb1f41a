// relu(z) = max(z, 0)
#pragma once

#include <array>
#include <string_view>

#include "core/op/activation/arithmetic.h"

namespace toroid::op::activation {

struct Relu {
  static constexpr std::string_view kName = "RELU";
  static constexpr std::array<std::string_view, 1> kHuggingFace{"relu"};

  template <class X>
  static constexpr Point<X> at(X z) {
    // A NaN passes: it is not below zero.
    return {where_negative(z, 0.0, z), where_positive(z, 1.0, 0.0)};
  }
};

}  // namespace toroid::op::activation
