// Gradient descent with momentum, as torch.optim.SGD without dampening, and decoupled weight decay:
//   b = mu b + g;  w = w - r decay w - r (nesterov ? g + mu b : b)
#pragma once

#include "optim/optimizer.h"

namespace toroid::optim {

std::unique_ptr<Optimizer> make_sgd(const config::OptimConfig& config);

}  // namespace toroid::optim
