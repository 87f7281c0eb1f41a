// The two ends of the decoder: the scaled embedding, and the final norm with the head. M = B T tokens, o = M
// / m of them a rank's own where a model axis of m ranks cuts the vocabulary.
#pragma once

#include "core/model/context.h"

namespace toroid {

// x[o, D] = E[ids] * cast(sqrt(D))
Array embed_forward(Context& c, const DecoderConfig& config, const Weights& embedding,
                    const Microbatch& batch);
void embed_backward(Context& c, const DecoderConfig& config, const Microbatch& batch, Array d_x,
                    Gradient& d_table);

// token_loss f32[M] of the batch's targets, alike on all ranks; x[o, D] is the last layer's output.
void head_forward(Context& c, const DecoderConfig& config, const Weights& head, const PackedMatrix& table,
                  const Microbatch& batch, const Tensor& x, const Tensor& token_loss, int64_t block_tokens);
// The same with gradients: returns d_x[o, D].
Array head_backward(Context& c, const DecoderConfig& config, const Weights& head, const PackedMatrix& table,
                    const Microbatch& batch, Array x, const Tensor& token_loss, Gradient& d_norm,
                    Gradient& d_table, int64_t block_tokens);
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
