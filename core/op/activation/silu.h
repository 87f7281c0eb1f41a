// silu(z) = z / (1 + e^-z)
#pragma once

#include <array>
#include <string_view>

#include "core/op/activation/logistic_gate.h"

namespace toroid::op::activation {

struct Silu {
  static constexpr std::string_view kName = "SILU";
  static constexpr std::array<std::string_view, 2> kHuggingFace{"silu", "swish"};

  template <class X>
  static constexpr Point<X> at(X z) {
    return kGate(z);
  }

 private:
  static constexpr LogisticGate kGate{1, 0};
};

}  // namespace toroid::op::activation
