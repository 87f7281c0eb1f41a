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
ModelShare share_of(const Context& c, const DecoderConfig& config) {
  return {config, c.model.place(), c.tiles.deterministic};
}

namespace {

op::EmbedSpec embed_spec(const DecoderConfig& config, const ModelShare& share) {
  return {std::sqrt(static_cast<double>(config.d_model)), share.first_token};
}

}  // namespace

Normed final_norm(Context& c, const DecoderConfig& config, const Weights& head, const Tensor& x) {
  Normed out{c.array(x.shape, kTemporary), c.array_f32({x.rows()}, kTemporary)};
  c.launch(op::rms_norm(x, head.tensors[0], out.h.tensor, out.rstd.tensor, {config.norm_eps}));
  return out;
}

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
