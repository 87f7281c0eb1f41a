// Cross entropy over a large vocabulary, in blocks of tokens: full logits never exist. M tokens, V
// vocabulary, D d_model. logits = h E^T, soft-capped where the model does (c tanh(z / c)), softmax in fp32.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind loss_kind, loss_grad_kind, softcap_kind;

struct LossSpec {
  double softcap = 0;          // 0: none
  int64_t block_tokens = 512;  // tokens whose logits exist at a time
};

// h[M, D], table packed_forward[V, D], targets i32[M] (negative: no loss) -> token_loss f32[M] (0 where
// masked), unscaled.
Call loss(const Tensor& h, const Tensor& table, const Tensor& targets, const Tensor& token_loss,
          LossSpec spec);

// Loss and its gradient in one pass. scale f32[1] (one over the step's target count) multiplies the gradients
// only. table_backward is the same table packed_backward. -> token_loss f32[M], dh[M, D], d_table f32[V, D]
// (added to).
Call loss_grad(const Tensor& h, const Tensor& table, const Tensor& table_backward, const Tensor& targets,
               const Tensor& scale, const Tensor& token_loss, const Tensor& dh, const Tensor& d_table,
               LossSpec spec);

struct SoftcapSpec {
  double cap = 30;
};
// y = cap tanh(x / cap), in place where y is x.
Call softcap(const Tensor& x, const Tensor& y, SoftcapSpec spec);

}  // namespace toroid::op
