// Finite differences in double against a backward operator, by projections: for random directions r of the
// outputs, the gradient of L = sum of r . output by one element of an input is (L(x + h) - L(x - h)) / 2h.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/tensor/tensor.h"

namespace toroid::testing {

struct GradientCheck {
  // Computes the outputs from the inputs as they are now.
  std::function<void()> forward;
  // Outputs and, for each, the gradient of L by it that the backward operator was given.
  std::vector<Tensor> outputs, output_gradients;
  // An input and the gradient of L by it that the backward operator returned.
  struct Input {
    std::string name;
    Tensor tensor, gradient;
  };
  std::vector<Input> inputs;
};

// Checks every element of every input; all tensors are f64. Prints the worst element with its index and both
// values when one is further off than `tolerance` of the gradient's largest element.
void check_gradients(const GradientCheck& check, double tolerance = 1e-7, double step = 1e-5);

}  // namespace toroid::testing
