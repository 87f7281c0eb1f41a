// AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, "Decoupled weight decay regularization",
// 2019, algorithm 2, with the schedule multiplier folded into the rate r):
//   m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   w = w - r decay w - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
#pragma once

#include "optim/optimizer.h"

namespace toroid::config {
class AdamwConfig;
}

namespace toroid::optim {

std::unique_ptr<Optimizer> make_adamw(const config::OptimConfig& config);

// For a rule that leaves some tensors to AdamW; its rate is `rate_scale` times the schedule's.
std::unique_ptr<Optimizer> make_adamw(const config::AdamwConfig& adamw, double rate_scale);

}  // namespace toroid::optim
