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

// The loss of a vocabulary in parts.
struct LossByParts {
  Array h;            // of all tokens, [M, D]
  Array normalisers;  // f32[2, M]
};
// h of the own tokens -> token_loss of all.
LossByParts loss_by_parts(Context& c, const DecoderConfig& config, const ModelShare& share,
                          const Tensor& own_h, const PackedMatrix& table, const Microbatch& batch,
                          const Tensor& token_loss, int64_t block_tokens) {
  const int64_t slices = c.tiles.deterministic ? share.slices : 1, tokens = batch.targets.rows();
  Array own = c.array_f32({3 * slices, tokens}, kTemporary);
  const RowWork statistics = [&](const Tensor& h, int64_t first) {
    c.launch(op::loss_statistics(h, table.forward, batch.targets.slice_rows(first, h.rows()),
                                 own.tensor.slice_columns(first, h.rows()),
                                 part_spec(config, share, block_tokens)),
             slices);
  };
  LossByParts out;
  out.h = gather_rows(c, own_h, "head input", statistics);
  const Array all = c.model.all_gather(std::move(own), {"loss statistics", kTemporary, c.phase});
  out.normalisers = c.array_f32({2, tokens}, kTemporary);
  c.launch(op::loss_merge(all.tensor, batch.targets, token_loss, out.normalisers.tensor));
  return out;
}

}  // namespace

Array embed_forward(Context& c, const DecoderConfig& config, const Weights& embedding,
                    const Microbatch& batch) {
  Array x = c.array({batch.rows(), config.d_model}, "activations");
  const RowWork embed = [&](const Tensor& rows, int64_t first) {
    c.launch(op::embed(batch.ids.slice_rows(first, rows.rows()), embedding.tensors[0], rows,
                       embed_spec(config, share_of(c, config))));
  };
  // Every row comes from one rank; the others add zeros.
  return c.model.reduce_scatter_beside(std::move(x), Wire::exact, embed,
                                       {"embedding", "activations", c.phase});
}

void embed_backward(Context& c, const DecoderConfig& config, const Microbatch& batch, Array d_x,
                    Gradient& d_table) {
  begin_adding(c, d_table);
  const RowWork add = [&](const Tensor& rows, int64_t first) {
    c.launch(op::embed_grad(batch.ids.slice_rows(first, rows.rows()), rows, d_table.tensor,
                            embed_spec(config, share_of(c, config))));
  };
  gather_rows(c, d_x.tensor, "gradient of the embedding", add);
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
  loss_by_parts(c, config, share, normed.h.tensor, table, batch, token_loss, block_tokens);
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
    const LossByParts loss =
        loss_by_parts(c, config, share, normed.h.tensor, table, batch, token_loss, block_tokens);
    c.phase = Phase::backward;
    begin_adding(c, d_table);
    const RowWork gradient = [&](const Tensor& partial, int64_t first) {
      const int64_t rows = partial.rows();
      c.launch(op::loss_part_grad(loss.h.tensor.slice_rows(first, rows), table.forward, table.backward,
                                  batch.targets.slice_rows(first, rows), batch.scale,
                                  loss.normalisers.tensor.slice_columns(first, rows), partial, d_table.tensor,
                                  part_spec(config, share, block_tokens)),
               share.slices);
    };
    Array partial = c.array_f32(loss.h.tensor.shape, kTemporary);
    dh = rounded(c, scatter_sum(c, std::move(partial), gradient, "gradient of the head input"), kTemporary);
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
