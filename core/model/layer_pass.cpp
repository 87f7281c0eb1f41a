#include "core/model/layer_pass.h"

#include <array>

#include "core/op/elementwise.h"

namespace toroid {
namespace {

constexpr const char* kMlpInput = "MLP input";

}  // namespace

void Layer::Pass::compute(Slot slot) {
  const int64_t D = config.d_model;
  switch (slot) {
    case Slot::h1:
    case Slot::rstd1: {
      const Tensor x = value(Slot::x);
      c.launch(op::rms_norm(x, weights.tensors[input_norm], own(Slot::h1, D),
                            fresh_f32(Slot::rstd1, {own_rows_}), norm_spec()));
      return;
    }
    case Slot::qkv: {
      const Tensor qkv = all(Slot::qkv, share.qkv_columns(config.head_dim));
      if (config.parallel_layers && !saved[Slot::pre].tensor) {
        // Both branches' products go beside the one gather.
        multiply_input(Slot::h1, Slot::all_h1, input_name(), {{qkv_pack, qkv}, {pre_pack, new_pre()}});
      } else {
        multiply_input(Slot::h1, Slot::all_h1, input_name(), {{qkv_pack, qkv}});
      }
      if (!config.qk_norm) c.launch(op::rope(qkv, rope_table(), {}, {}, qkv, {}, rope_spec()));
      return;
    }
    case Slot::all_h1: {
      const Tensor h1 = value(Slot::h1);
      saved[slot] = gather_rows(c, h1, name(input_name()), {}, kActivations);
      return;
    }
    case Slot::all_h2: {
      const Tensor h2 = value(Slot::h2);
      saved[slot] = gather_rows(c, h2, name(kMlpInput), {}, kActivations);
      return;
    }
    case Slot::rotated:
    case Slot::rstd_qk: {
      const Tensor qkv = value(Slot::qkv);
      const op::RopeSpec spec = rope_spec();
      c.launch(op::rope(qkv, rope_table(), weights.tensors[q_norm()], weights.tensors[k_norm()],
                        all(Slot::rotated, share.qkv_columns(config.head_dim)),
                        fresh_f32(Slot::rstd_qk, {batch.rows(), spec.heads + spec.kv_heads}), spec));
      return;
    }
    case Slot::kv: {
      const Tensor h1 = value(Slot::h1);
      const Tensor kv = own(Slot::kv, 2 * share.kv_heads * config.head_dim);
      c.launch(op::matmul(h1, weights.packs[kv_pack].forward, kv));
      if (!config.qk_norm) c.launch(op::rope(kv, own_rope_table(), {}, {}, kv, {}, kv_rope_spec()));
      return;
    }
    case Slot::all_kv:
    case Slot::rstd_k:
      compute_all_kv();
      return;
    case Slot::attended:
    case Slot::lse:
      attend();
      return;
    case Slot::projected: {
      const Tensor attended = value(Slot::attended);
      const ForwardTerm term{attended, weights.packs[o_pack].forward};
      saved[slot] = contract(c, {&term, 1}, slices(), name("attention output"), kActivations);
      return;
    }
    case Slot::mid:
    case Slot::rstd_post1: {
      const Tensor x = value(Slot::x), projected = value(Slot::projected);
      const Tensor rstd_post = config.post_norms ? fresh_f32(Slot::rstd_post1, {own_rows_}) : Tensor{};
      c.launch(op::residual_norm(x, projected, post_weight(attention_post_norm()), weights.tensors[mlp_norm],
                                 own(Slot::mid, D), own(Slot::h2, D), fresh_f32(Slot::rstd2, {own_rows_}),
                                 rstd_post, norm_spec()));
      if (!config.post_norms) drop(Slot::projected);
      return;
    }
    case Slot::h2:
    case Slot::rstd2: {
      const Tensor mid = value(Slot::mid);
      if (saved[slot].tensor) return;  // mid's own computation gave it
      c.launch(op::rms_norm(mid, weights.tensors[mlp_norm], own(Slot::h2, D),
                            fresh_f32(Slot::rstd2, {own_rows_}), norm_spec()));
      return;
    }
    case Slot::pre: {
      const Tensor pre = new_pre();
      if (config.parallel_layers) {
        multiply_input(Slot::h1, Slot::all_h1, input_name(), {{pre_pack, pre}});
      } else {
        multiply_input(Slot::h2, Slot::all_h2, kMlpInput, {{pre_pack, pre}});
      }
      return;
    }
    case Slot::act: {
      const Tensor pre = value(Slot::pre);
      c.launch(op::activate(pre, all(Slot::act, share.ffn), activation_spec()));
      return;
    }
    case Slot::down: {
      const Tensor act = value(Slot::act);
      const ForwardTerm term{act, weights.packs[down_pack].forward};
      saved[slot] = contract(c, {&term, 1}, slices(), name("MLP output"), kActivations);
      return;
    }
    case Slot::rstd_post2: {
      // Only the sum's post-norm gives it; the sum itself is not wanted again.
      Array unused = c.array({own_rows_, D}, kTemporary);
      const Tensor mid = value(Slot::mid), down = value(Slot::down);
      c.launch(op::residual_add(mid, down, post_weight(mlp_post_norm()), unused.tensor,
                                fresh_f32(Slot::rstd_post2, {own_rows_}), norm_spec()));
      return;
    }
    case Slot::x:
    case Slot::count:
      break;
  }
  throw InternalError("a layer's input did not survive to its backward pass");
}

// y = x W^T of all tokens' rows x of a norm's output, for each of the products.
void Layer::Pass::multiply_input(Slot own_slot, Slot all_slot, const char* what,
                                 std::initializer_list<InputProduct> products) {
  const RowWork multiply = [&](const Tensor& rows, int64_t first) {
    for (const auto& [pack, y] : products)
      c.launch(op::matmul(rows, weights.packs[pack].forward, y.slice_rows(first, rows.rows())));
  };
  if (alone() || saved[all_slot].tensor)
    return multiply(alone() ? value(own_slot) : saved[all_slot].tensor, 0);
  const Tensor own = value(own_slot);
  saved[all_slot] = gather_rows(c, own, name(what), multiply, kActivations);
}

void Layer::Pass::compute_all_kv() {
  const Tensor kv = value(Slot::kv);
  Array rotated;
  if (config.qk_norm) {
    rotated = c.array(kv.shape, kTemporary);
    c.launch(op::rope(kv, own_rope_table(), weights.tensors[q_norm()], weights.tensors[k_norm()],
                      rotated.tensor, fresh_f32(Slot::rstd_k, {own_rows_, share.kv_heads}), kv_rope_spec()));
  }
  saved[Slot::all_kv] = c.model.all_gather({config.qk_norm ? rotated.tensor : kv, Buffer()},
                                           {name("keys and values"), kActivations, c.phase});
  if (!config.qk_norm) drop(Slot::kv);
}

void Layer::Pass::attend() {
  const Heads heads = attention_inputs();
  const Tensor attended = all(Slot::attended, share.heads * config.head_dim),
               lse = fresh_f32(Slot::lse, {share.heads, batch.rows()});
  for (const HeadRun& run : share.runs) {
    c.launch(op::attention(columns(heads.q, run.head, run.heads), columns(heads.k, run.kv_head, run.kv_heads),
                           columns(heads.v, run.kv_head, run.kv_heads), batch.starts,
                           columns(attended, run.head, run.heads), lse.slice_rows(run.head, run.heads),
                           attention_spec(run)),
             slices());
  }
}

void Layer::Pass::recompute_heads() {
  c.phase = Phase::recompute;
  attention_inputs();
  if (config.qk_norm) value(Slot::rstd_qk);
  value(Slot::attended);
  value(Slot::rstd1);
  c.phase = Phase::backward;
}

Array Layer::Pass::out() {
  if (config.parallel_layers) return parallel_out();
  value(Slot::down);
  const Tensor mid = value(Slot::mid);
  Array out = c.array({own_rows_, config.d_model}, kActivations);
  const Tensor rstd_post = config.post_norms ? fresh_f32(Slot::rstd_post2, {own_rows_}) : Tensor{};
  c.launch(op::residual_add(mid, value(Slot::down), post_weight(mlp_post_norm()), out.tensor, rstd_post,
                            norm_spec()));
  if (!config.post_norms) drop(Slot::down);
  return out;
}

// x + Attention(h1) + MLP(h1): the two partial sums travel as one.
Array Layer::Pass::parallel_out() {
  const std::array<ForwardTerm, 2> terms{{{value(Slot::attended), weights.packs[o_pack].forward},
                                          {value(Slot::act), weights.packs[down_pack].forward}}};
  const Array sum = contract(c, terms, slices(), name("output"), kTemporary);
  Array out = c.array({own_rows_, config.d_model}, kActivations);
  c.launch(op::residual_add(value(Slot::x), sum.tensor, {}, out.tensor, {}, norm_spec()));
  return out;
}

Array Layer::Pass::through_post_norm(const Tensor& d_sum, Slot branch, Slot rstd, size_t weight,
                                     std::span<Gradient> gradients) {
  if (!config.post_norms) return {d_sum, Buffer()};
  begin_adding(c, gradients[weight]);
  Array d_branch = own_temporary(config.d_model);
  c.launch(op::rms_norm_grad(d_sum, saved[branch].tensor, weights.tensors[weight], saved[rstd].tensor, {},
                             d_branch.tensor, gradients[weight].tensor, {}, norm_spec()));
  drop(branch);
  drop(rstd);
  return d_branch;
}

}  // namespace toroid
