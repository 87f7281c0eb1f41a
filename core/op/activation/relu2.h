// relu2(z) = max(z, 0)^2
#pragma once

#include <array>
#include <string_view>

#include "core/op/activation/arithmetic.h"

namespace toroid::op::activation {

struct Relu2 {
  static constexpr std::string_view kName = "RELU2";
  static constexpr std::array<std::string_view, 1> kHuggingFace{"relu2"};

  template <class X>
  static constexpr Point<X> at(X z) {
    const X root = where_negative(z, 0.0, z);
    return {root * root, root + root};
  }
};

}  // namespace toroid::op::activation
