// The MLP's activation. M tokens, F ffn hidden per branch.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind activate_kind, activate_grad_kind;

// gelu_tanh(z) = 0.5 z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)));  silu(z) = z / (1 + exp(-z));  relu(z) =
// max(z, 0)
enum class Activation : uint8_t { gelu_tanh, silu, relu };

struct ActivationSpec {
  Activation activation = Activation::gelu_tanh;
  bool gated = true;
};

// pre[M, 2F] (gate, then up, in each row) -> act[M, F] = f(gate) * up;  not gated: pre[M, F] -> f(pre).
// Computed in fp32 with one rounding at the end.
Call activate(const Tensor& pre, const Tensor& act, ActivationSpec spec);
// d_act[M, F], pre -> d_pre (may be pre); where `act` is given, the forward result is written there again.
Call activate_grad(const Tensor& d_act, const Tensor& pre, const Tensor& d_pre, const Tensor& act,
                   ActivationSpec spec);

}  // namespace toroid::op
