#include "core/model/ends.h"

#include <algorithm>
#include <cmath>

#include "core/model/product.h"
#include "core/model/share.h"
#include "core/op/embedding.h"
#include "core/op/loss.h"
#include "core/op/matmul.h"
#include "core/op/norm.h"
#include "core/op/rope.h"

namespace toroid {
namespace {

op::EmbedSpec embed_spec(const DecoderConfig& config, const ModelShare& share) {
  return {std::sqrt(static_cast<double>(config.d_model)), share.first_token};
}

ModelShare share_of(const Context& c, const DecoderConfig& config) {
  return {config, c.model.place(), c.tiles.deterministic};
}

struct Normed {
  Array h, rstd;
};

Normed final_norm(Context& c, const DecoderConfig& config, const Weights& head, const Tensor& x) {
  Normed out{c.array(x.shape, kTemporary), c.array_f32({x.rows()}, kTemporary)};
  c.launch(op::rms_norm(x, head.tensors[0], out.h.tensor, out.rstd.tensor, {config.norm_eps}));
  return out;
}

op::LossPartSpec part_spec(const DecoderConfig& config, const ModelShare& share, int64_t block_tokens) {
  return {config.logit_softcap, block_tokens, share.first_token, share.vocab_valid};
}

// The loss of a vocabulary in parts: h of all tokens -> token_loss; returns the normalisers, f32[2, M].
Array loss_by_parts(Context& c, const DecoderConfig& config, const ModelShare& share, const Tensor& h,
                    const PackedMatrix& table, const Microbatch& batch, const Tensor& token_loss,
                    int64_t block_tokens) {
  const int64_t slices = c.tiles.deterministic ? share.slices : 1;
  Array own = c.array_f32({3 * slices, h.rows()}, kTemporary);
  c.launch(op::loss_statistics(h, table.forward, batch.targets, own.tensor,
                               part_spec(config, share, block_tokens)),
           slices);
  const Array all = c.model.all_gather(std::move(own), {"loss statistics", kTemporary, c.phase});
  Array normalisers = c.array_f32({2, h.rows()}, kTemporary);
  c.launch(op::loss_merge(all.tensor, batch.targets, token_loss, normalisers.tensor));
  return normalisers;
}

}  // namespace

Array embed_forward(Context& c, const DecoderConfig& config, const Weights& embedding,
                    const Microbatch& batch) {
  Array x = c.array({batch.rows(), config.d_model}, "activations");
  c.launch(op::embed(batch.ids, embedding.tensors[0], x.tensor, embed_spec(config, share_of(c, config))));
  // Every row comes from one rank; the others add zeros.
  return c.model.reduce_scatter(std::move(x), Wire::exact, {"embedding", "activations", c.phase});
}

void embed_backward(Context& c, const DecoderConfig& config, const Microbatch& batch, Array d_x,
                    Gradient& d_table) {
  begin_adding(c, d_table);
  const Array all = gather_rows(c, d_x.tensor, "gradient of the embedding");
  c.launch(op::embed_grad(batch.ids, all.tensor, d_table.tensor, embed_spec(config, share_of(c, config))));
}

void head_forward(Context& c, const DecoderConfig& config, const Weights& head, const PackedMatrix& table,
                  const Microbatch& batch, const Tensor& x, const Tensor& token_loss, int64_t block_tokens) {
  const ModelShare share = share_of(c, config);
  const Normed normed = final_norm(c, config, head, x);
  if (share.place.size == 1) {
    c.launch(op::loss(normed.h.tensor, table.forward, batch.targets, token_loss,
                      {config.logit_softcap, block_tokens}),
             share.slices);
    return;
  }
  const Array h = gather_rows(c, normed.h.tensor, "head input");
  loss_by_parts(c, config, share, h.tensor, table, batch, token_loss, block_tokens);
}

Array head_backward(Context& c, const DecoderConfig& config, const Weights& head, const PackedMatrix& table,
                    const Microbatch& batch, Array x, const Tensor& token_loss, Gradient& d_norm,
                    Gradient& d_table, int64_t block_tokens) {
  const ModelShare share = share_of(c, config);
  c.phase = Phase::forward;
  Normed normed = final_norm(c, config, head, x.tensor);
  Array dh;
  if (share.place.size == 1) {
    c.phase = Phase::backward;
    dh = c.array(x.tensor.shape, kTemporary);
    begin_adding(c, d_table);
    c.launch(op::loss_grad(normed.h.tensor, table.forward, table.backward, batch.targets, batch.scale,
                           token_loss, dh.tensor, d_table.tensor, {config.logit_softcap, block_tokens}),
             share.slices);
  } else {
    const Array h = gather_rows(c, normed.h.tensor, "head input");
    const Array normalisers =
        loss_by_parts(c, config, share, h.tensor, table, batch, token_loss, block_tokens);
    c.phase = Phase::backward;
    Array partial = c.array_f32(h.tensor.shape, kTemporary);
    begin_adding(c, d_table);
    c.launch(op::loss_part_grad(h.tensor, table.forward, table.backward, batch.targets, batch.scale,
                                normalisers.tensor, partial.tensor, d_table.tensor,
                                part_spec(config, share, block_tokens)),
             share.slices);
    dh = rounded(c, scatter_sum(c, std::move(partial), {}, "gradient of the head input"), kTemporary);
  }
  normed.h = Array{};
  begin_adding(c, d_norm);
  Array d_x = c.array(x.tensor.shape, kTemporary);
  c.launch(op::rms_norm_grad(dh.tensor, x.tensor, head.tensors[0], normed.rstd.tensor, {}, d_x.tensor,
                             d_norm.tensor, {}, {config.norm_eps}));
  return d_x;
}

Array head_logits(Context& c, const DecoderConfig& config, const Weights& head, const PackedMatrix& table,
                  const Tensor& x) {
  const Normed normed = final_norm(c, config, head, x);
  const Array h = gather_rows(c, normed.h.tensor, "head input");
  Array logits = c.array_f32({h.tensor.rows(), table.forward.rows()}, "logits");
  c.launch(op::matmul(h.tensor, table.forward, logits.tensor));
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
