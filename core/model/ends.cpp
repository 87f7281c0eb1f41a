#include "core/model/ends.h"

#include <algorithm>
#include <cmath>

#include "core/op/embedding.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/norm.h"
#include "core/op/rope.h"

namespace toroid {
namespace {

op::EmbedSpec embed_spec(const DecoderConfig& config) {
  return {std::sqrt(static_cast<double>(config.d_model)), 0};
}

struct Normed {
  Array h, rstd;
};

Normed final_norm(Context& c, const DecoderConfig& config, const Weights& head, const Tensor& x) {
  Normed out{c.array(x.shape, "temporaries"), c.array_f32({x.rows()}, "temporaries")};
  c.launch(op::rms_norm(x, head.tensors[0], out.h.tensor, out.rstd.tensor, {config.norm_eps}));
  return out;
}

}  // namespace

Array embed_forward(Context& c, const DecoderConfig& config, const Weights& embedding,
                    const Microbatch& batch) {
  Array x = c.array({batch.rows(), config.d_model}, "activations");
  c.launch(op::embed(batch.ids, embedding.tensors[0], x.tensor, embed_spec(config)));
  return x;
}

void embed_backward(Context& c, const DecoderConfig& config, const Microbatch& batch, Array d_x,
                    Gradient& d_table) {
  begin_adding(c, d_table);
  c.launch(op::embed_grad(batch.ids, d_x.tensor, d_table.tensor, embed_spec(config)));
}

void head_forward(Context& c, const DecoderConfig& config, const Weights& head, const PackedMatrix& table,
                  const Microbatch& batch, const Tensor& x, const Tensor& token_loss, int64_t block_tokens) {
  const Normed normed = final_norm(c, config, head, x);
  c.launch(op::loss(normed.h.tensor, table.forward, batch.targets, token_loss,
                    {config.logit_softcap, block_tokens}),
           config.canonical_slices());
}

Array head_backward(Context& c, const DecoderConfig& config, const Weights& head, const PackedMatrix& table,
                    const Microbatch& batch, Array x, const Tensor& token_loss, Gradient& d_norm,
                    Gradient& d_table, int64_t block_tokens) {
  c.phase = Phase::forward;
  Normed normed = final_norm(c, config, head, x.tensor);
  c.phase = Phase::backward;
  Array dh = c.array(x.tensor.shape, "temporaries");
  begin_adding(c, d_table);
  c.launch(op::loss_grad(normed.h.tensor, table.forward, table.backward, batch.targets, batch.scale,
                         token_loss, dh.tensor, d_table.tensor, {config.logit_softcap, block_tokens}),
           config.canonical_slices());
  normed.h = Array{};
  begin_adding(c, d_norm);
  Array d_x = c.array(x.tensor.shape, "temporaries");
  c.launch(op::rms_norm_grad(dh.tensor, x.tensor, head.tensors[0], normed.rstd.tensor, {}, d_x.tensor,
                             d_norm.tensor, {}, {config.norm_eps}));
  return d_x;
}

Array head_logits(Context& c, const DecoderConfig& config, const Weights& head, const PackedMatrix& table,
                  const Tensor& x) {
  const Normed normed = final_norm(c, config, head, x);
  Array logits = c.array_f32({x.rows(), config.vocab}, "logits");
  c.launch(op::matmul(normed.h.tensor, table.forward, logits.tensor));
  if (config.logit_softcap > 0) {
    c.launch(op::softcap(logits.tensor, logits.tensor, {config.logit_softcap}));
  }
  return logits;
}

RopeTables make_rope_tables(Context& c, const DecoderConfig& config, Microbatch& batch) {
  RopeTables tables;
  const Shape shape{batch.rows(), config.head_dim};
  const bool any_local = std::find(config.local.begin(), config.local.end(), true) != config.local.end();
  tables.global = c.array_f32(shape, "batch");
  c.launch(op::rope_table(batch.positions, tables.global.tensor, {config.rope_base, config.rope_scale}));
  batch.rope_global = batch.rope_local = tables.global.tensor;
  if (any_local && (config.rope_local_base != config.rope_base || config.rope_scale != 1)) {
    tables.local = c.array_f32(shape, "batch");
    c.launch(op::rope_table(batch.positions, tables.local.tensor, {config.rope_local_base, 1}));
    batch.rope_local = tables.local.tensor;
  }
  return tables;
}

}  // namespace toroid
