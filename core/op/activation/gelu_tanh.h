// gelu_tanh(z) = 0.5 z (1 + tanh u), u = sqrt(2/pi) (z + 0.044715 z^3). That is z s(2u) with the logistic
// function s.
#pragma once

#include <array>
#include <string_view>

#include "core/op/activation/logistic_gate.h"

namespace toroid::op::activation {

struct GeluTanh {
  static constexpr std::string_view kName = "GELU_TANH";
  // One formula, which transformers computes in five ways.
  static constexpr std::array<std::string_view, 5> kHuggingFace{"gelu_pytorch_tanh", "gelu_python_tanh",
                                                                "gelu_new", "gelu_fast", "gelu_accurate"};

  template <class X>
  static constexpr Point<X> at(X z) {
    return kGate(z);
  }

 private:
  // 2 sqrt(2/pi), 0.044715 times that, and the first again with the digits that the slope has always had: one
  // more would change the last bit of gradients in fp32.
  static constexpr LogisticGate kGate{1.5957691216057308, 0.07135481627260024, 1.5957691};
};

}  // namespace toroid::op::activation
