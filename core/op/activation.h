// The MLP's activation. M tokens, F ffn hidden per branch.
#pragma once

#include "core/op/activation/all.h"
#include "core/op/op.h"

namespace toroid::op {

extern const OpKind activate_kind, activate_grad_kind;

struct ActivationSpec {
  Activation activation = activation_of<activation::GeluTanh>;
  bool gated = true;
};

// pre[M, 2F] (gate, then up, in each row) -> act[M, F] = f(gate) * up;  not gated: pre[M, F] -> f(pre).
// Computed in fp32 with one rounding at the end.
Call activate(const Tensor& pre, const Tensor& act, ActivationSpec spec);
// d_act[M, F], pre -> d_pre (may be pre); where `act` is given, the forward result is written there again.
Call activate_grad(const Tensor& d_act, const Tensor& pre, const Tensor& d_pre, const Tensor& act,
                   ActivationSpec spec);

}  // namespace toroid::op
