// quick_gelu(z) = z / (1 + e^(-1.702 z)), the older approximation of gelu.
#pragma once

#include <array>
#include <string_view>

#include "core/op/activation/logistic_gate.h"

namespace toroid::op::activation {

struct QuickGelu {
  static constexpr std::string_view kName = "QUICK_GELU";
  static constexpr std::array<std::string_view, 1> kHuggingFace{"quick_gelu"};

  template <class X>
  static constexpr Point<X> at(X z) {
    return kGate(z);
  }

 private:
  static constexpr LogisticGate kGate{1.702, 0};
};

}  // namespace toroid::op::activation
