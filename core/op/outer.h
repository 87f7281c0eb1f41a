// The outer step of DiLoCo (Douillard et al. 2023): pods that have trained apart agree again. With
// `shared` the weights on which they agreed last and `master` a pod's own,
//   d        = shared - master                            the pod's outer gradient
//   g        = mean of d over the pods
//   momentum = m momentum + g                             Nesterov's, as torch.optim.SGD(nesterov=True)
//   shared   = shared - r (g + m momentum);  master = shared
// All f32[n].
#pragma once

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind outer_gradient_kind, nesterov_kind;

Call outer_gradient(const Tensor& shared, const Tensor& master, const Tensor& gradient);

struct NesterovSpec {
  double learning_rate = 0.7;  // r
  double momentum = 0.9;       // m
  int64_t pods = 1;            // in whose sum `gradient` is
};
Call nesterov(const Tensor& gradient, const Tensor& shared, const Tensor& momentum, const Tensor& master,
              NesterovSpec spec);

}  // namespace toroid::op
