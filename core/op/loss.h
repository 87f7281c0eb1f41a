// Cross entropy over a large vocabulary, in blocks of tokens: full logits never exist. M tokens, V
// vocabulary, D d_model. logits = h E^T, soft-capped where the model does (c tanh(z / c)), softmax in fp32.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind loss_kind, loss_grad_kind, softcap_kind, loss_statistics_kind, loss_merge_kind,
    loss_part_grad_kind;

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

// Where a model axis cuts the vocabulary, the table holds some of its rows and the loss is three operators:
// statistics of the part's logits, which are gathered and merged, and the part's gradient.
struct LossPartSpec {
  double softcap = 0;
  int64_t block_tokens = 512;
  int64_t first_token = 0;  // the id of the table's first row
  int64_t valid = 0;        // rows of the table that are tokens; the others pad it
};

// h[M, D], table packed_forward[V, D], targets i32[M] -> statistics f32[3 S, M]: for each of the table's S
// slices (deterministic mode: tiles.slices; else one) the largest logit, the sum of exp(logit - largest), and
// the target's logit, 0 where it lies elsewhere. Without a valid row: -inf, 0, 0. They may be some tokens'
// columns of a wider matrix.
Call loss_statistics(const Tensor& h, const Tensor& table, const Tensor& targets, const Tensor& statistics,
                     LossPartSpec spec);
// The statistics of all slices of all parts, f32[3 S, M], merged as a balanced tree -> token_loss f32[M],
// normalisers f32[2, M]: the largest of all logits, and the log of the sum of all exponentials.
Call loss_merge(const Tensor& statistics, const Tensor& targets, const Tensor& token_loss,
                const Tensor& normalisers);
// The gradient of loss_grad for the table's rows alone, normalisers likewise columns of a wider matrix ->
// dh[M, D] of h's type or f32 (the part of the sum), d_table f32[V, D] (added to; padding gets 0).
Call loss_part_grad(const Tensor& h, const Tensor& table, const Tensor& table_backward, const Tensor& targets,
                    const Tensor& scale, const Tensor& normalisers, const Tensor& dh, const Tensor& d_table,
                    LossPartSpec spec);

struct SoftcapSpec {
  double cap = 30;
};
// y = cap tanh(x / cap), in place where y is x.
Call softcap(const Tensor& x, const Tensor& y, SoftcapSpec spec);

}  // namespace toroid::op
