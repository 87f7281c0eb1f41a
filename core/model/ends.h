// The two ends of the decoder: the scaled embedding, and the final norm with the head; what is made of the
// head in training is the objective's (objective.h). M = B T tokens, o = M
// / m of them a rank's own where a model axis of m ranks cuts the vocabulary.
#pragma once

#include "core/model/context.h"
#include "core/model/share.h"

namespace toroid {

// x[o, D] = E[ids] * cast(sqrt(D))
Array embed_forward(Context& c, const DecoderConfig& config, const Weights& embedding,
                    const Microbatch& batch);
void embed_backward(Context& c, const DecoderConfig& config, const Microbatch& batch, Array d_x,
                    Gradient& d_table);

// What this rank computes of the model.
ModelShare share_of(const Context& c, const DecoderConfig& config);

// The final norm of x[o, D]: h of x's shape and type, rstd f32[o].
struct Normed {
  Array h, rstd;
};
Normed final_norm(Context& c, const DecoderConfig& config, const Weights& head, const Tensor& x);

// logits f32[M, V], or this rank's part of V with its padding: for generation and comparisons, where M is
// small.
Array head_logits(Context& c, const DecoderConfig& config, const Weights& head, const PackedMatrix& table,
                  const Tensor& x);

// Fills the batch's two RoPE tables from its positions; the local one is the global one where no layer is
// local.
struct RopeTables {
  Array global, local;
};
RopeTables make_rope_tables(Context& c, const DecoderConfig& config, Microbatch& batch);

}  // namespace toroid
