// What update rules with one moment are made of: momentum, a step along a direction, and Lion. All f32[n]
// unless said otherwise. `control` is the step's (update.h): the gradient is scaled by control[clip], and
// nothing that lasts changes where control[apply] is 0.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind momentum_kind, descend_kind, lion_kind;

// g = clip * gradient;  b = decay b + take g;  out = nesterov ? take g + decay b : b, where apply is 0 out =
// 0. take = 1 is torch.optim.SGD's momentum, take = 1 - decay torch.optim.Muon's.
struct MomentumSpec {
  double decay = 0.95, take = 1;
  bool nesterov = false;
};
Call momentum(const Tensor& gradient, const Tensor& control, const Tensor& buffer, const Tensor& out,
              MomentumSpec spec);

// w = w - r (weight_decay w + scale d), r = control[rate]. The direction d may be bf16.
struct DescendSpec {
  double scale = 1, weight_decay = 0;
};
Call descend(const Tensor& direction, const Tensor& control, const Tensor& master, DescendSpec spec);

// Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2):
//   w = w - r (weight_decay w + sign(beta1 m + (1 - beta1) g));  m = beta2 m + (1 - beta2) g
struct LionSpec {
  double beta1 = 0.9, beta2 = 0.99, weight_decay = 0.1;
};
Call lion(const Tensor& gradient, const Tensor& control, const Tensor& master, const Tensor& exp_avg,
          LionSpec spec);

}  // namespace toroid::op
