#include "core/model/layer.h"

#include <utility>

#include "core/base/error.h"
#include "core/model/product.h"
#include "core/op/activation.h"
#include "core/op/attention.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"
#include "core/op/norm.h"
#include "core/op/rope.h"

namespace toroid {
namespace {

// Indices of a layer's tensors and packs (decoder_units in decoder_config.cpp).
// Matrices that are multiplied together are neighbours.
enum LayerTensor : size_t { input_norm, q_proj, k_proj, v_proj, o_proj, mlp_norm, first_mlp };
enum LayerPack : size_t { qkv_pack, o_pack, pre_pack, down_pack };

size_t down_proj(const DecoderConfig& c) {
  return first_mlp + (c.gated_mlp ? 2 : 1);
}
size_t attention_post_norm(const DecoderConfig& c) {
  return down_proj(c) + 1;
}
size_t mlp_post_norm(const DecoderConfig& c) {
  return attention_post_norm(c) + 1;
}
size_t q_norm(const DecoderConfig& c) {
  return attention_post_norm(c) + (c.post_norms ? 2 : 0);
}
size_t k_norm(const DecoderConfig& c) {
  return q_norm(c) + 1;
}

constexpr const char* kActivations = "activations";
constexpr const char* kTemporary = "temporaries";

}  // namespace

Keep Keep::all() {
  return Keep((uint32_t{1} << kSlots) - 1);
}

Keep Keep::cheap() {
  return all()
      .without(Slot::h1)
      .without(Slot::h2)
      .without(Slot::act)
      .without(Slot::rotated)
      .without(Slot::rstd_qk);
}

Keep Keep::input() {
  return Keep().with(Slot::x);
}

// One pass over one layer: computes slots on demand.
class Layer::Pass {
 public:
  Pass(Context& context, const DecoderConfig& decoder, bool local, const Weights& w, const Microbatch& b,
       Saved& s)
      : c(context), config(decoder), weights(w), batch(b), saved(s), local_(local), rows_(b.rows()) {}

  const Tensor& value(Slot slot) {
    if (!saved[slot].tensor) compute(slot);
    return saved[slot].tensor;
  }
  void drop(Slot slot) { saved[slot] = Array{}; }
  Array out();

  op::NormSpec norm_spec() const { return {config.norm_eps}; }
  op::RopeSpec rope_spec() const { return {config.heads, config.kv_heads, config.head_dim, config.norm_eps}; }
  op::ActivationSpec activation_spec() const { return {config.activation, config.gated_mlp}; }
  op::AttentionSpec attention_spec() const {
    return {batch.sequences,         config.heads,           config.kv_heads,
            config.head_dim,         config.attention_scale, local_ ? config.window : 0,
            config.attention_softcap};
  }
  const Tensor& rope_table() const { return local_ ? batch.rope_local : batch.rope_global; }
  Tensor post_weight(size_t index) const { return config.post_norms ? weights.tensors[index] : Tensor{}; }
  int64_t slices() const { return config.canonical_slices(); }
  Slot attention_input() const { return config.qk_norm ? Slot::rotated : Slot::qkv; }
  // The gradient of a branch's result from that of the sum it was added to: the same tensor, borrowed, or,
  // where the branch has a post-norm, the gradient through it. The norm's input and rstd are used up.
  Array through_post_norm(const Tensor& d_sum, Slot branch, Slot rstd, size_t weight,
                          std::span<Gradient> gradients);
  Array temporary(int64_t columns) { return c.array({rows_, columns}, kTemporary); }

  struct Heads {
    Tensor q, k, v;
  };
  Heads split(const Tensor& qkv) const {
    const int64_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
    return {qkv.slice_columns(0, q), qkv.slice_columns(q, kv), qkv.slice_columns(q + kv, kv)};
  }

  Context& c;
  const DecoderConfig& config;
  const Weights& weights;
  const Microbatch& batch;
  Saved& saved;

 private:
  void compute(Slot slot);
  const Tensor& fresh(Slot slot, int64_t columns) {
    saved[slot] = c.array({rows_, columns}, kActivations);
    return saved[slot].tensor;
  }
  const Tensor& fresh_f32(Slot slot, Shape shape) {
    saved[slot] = c.array_f32(shape, kActivations);
    return saved[slot].tensor;
  }

  bool local_;
  int64_t rows_;
};

void Layer::Pass::compute(Slot slot) {
  const int64_t D = config.d_model;
  switch (slot) {
    case Slot::h1:
    case Slot::rstd1: {
      const Tensor x = value(Slot::x);
      c.launch(op::rms_norm(x, weights.tensors[input_norm], fresh(Slot::h1, D),
                            fresh_f32(Slot::rstd1, {rows_}), norm_spec()));
      return;
    }
    case Slot::qkv: {
      const Tensor h1 = value(Slot::h1);
      const Tensor qkv = fresh(Slot::qkv, config.qkv_columns());
      c.launch(op::matmul(h1, weights.packs[qkv_pack].forward, qkv));
      if (!config.qk_norm) c.launch(op::rope(qkv, rope_table(), {}, {}, qkv, {}, rope_spec()));
      return;
    }
    case Slot::rotated:
    case Slot::rstd_qk: {
      const Tensor qkv = value(Slot::qkv);
      c.launch(op::rope(qkv, rope_table(), weights.tensors[q_norm(config)], weights.tensors[k_norm(config)],
                        fresh(Slot::rotated, config.qkv_columns()),
                        fresh_f32(Slot::rstd_qk, {rows_, config.heads + config.kv_heads}), rope_spec()));
      return;
    }
    case Slot::attended:
    case Slot::lse: {
      const Heads heads = split(value(attention_input()));
      c.launch(op::attention(heads.q, heads.k, heads.v, batch.starts,
                             fresh(Slot::attended, config.heads * config.head_dim),
                             fresh_f32(Slot::lse, {config.heads, rows_}), attention_spec()),
               slices());
      return;
    }
    case Slot::projected: {
      const Tensor attended = value(Slot::attended);
      contract(c, attended, weights.packs[o_pack].forward, fresh(Slot::projected, D), slices());
      return;
    }
    case Slot::mid:
    case Slot::rstd_post1: {
      const Tensor x = value(Slot::x), projected = value(Slot::projected);
      const Tensor rstd_post = config.post_norms ? fresh_f32(Slot::rstd_post1, {rows_}) : Tensor{};
      c.launch(op::residual_norm(x, projected, post_weight(attention_post_norm(config)),
                                 weights.tensors[mlp_norm], fresh(Slot::mid, D), fresh(Slot::h2, D),
                                 fresh_f32(Slot::rstd2, {rows_}), rstd_post, norm_spec()));
      if (!config.post_norms) drop(Slot::projected);
      return;
    }
    case Slot::h2:
    case Slot::rstd2: {
      const Tensor mid = value(Slot::mid);
      if (saved[slot].tensor) return;  // mid's own computation gave it
      c.launch(op::rms_norm(mid, weights.tensors[mlp_norm], fresh(Slot::h2, D),
                            fresh_f32(Slot::rstd2, {rows_}), norm_spec()));
      return;
    }
    case Slot::pre: {
      const Tensor h2 = value(Slot::h2);
      c.launch(op::matmul(h2, weights.packs[pre_pack].forward, fresh(Slot::pre, config.pre_columns())));
      return;
    }
    case Slot::act: {
      const Tensor pre = value(Slot::pre);
      c.launch(op::activate(pre, fresh(Slot::act, config.ffn), activation_spec()));
      return;
    }
    case Slot::down: {
      const Tensor act = value(Slot::act);
      contract(c, act, weights.packs[down_pack].forward, fresh(Slot::down, D), slices());
      return;
    }
    case Slot::rstd_post2: {
      // Only the sum's post-norm gives it; the sum itself is not wanted again.
      Array unused = c.array({rows_, D}, kTemporary);
      const Tensor mid = value(Slot::mid), down = value(Slot::down);
      c.launch(op::residual_add(mid, down, post_weight(mlp_post_norm(config)), unused.tensor,
                                fresh_f32(Slot::rstd_post2, {rows_}), norm_spec()));
      return;
    }
    case Slot::x:
    case Slot::count:
      break;
  }
  throw InternalError("a layer's input did not survive to its backward pass");
}

Array Layer::Pass::out() {
  value(Slot::down);
  const Tensor mid = value(Slot::mid);
  Array out = c.array({rows_, config.d_model}, kActivations);
  const Tensor rstd_post = config.post_norms ? fresh_f32(Slot::rstd_post2, {rows_}) : Tensor{};
  c.launch(op::residual_add(mid, value(Slot::down), post_weight(mlp_post_norm(config)), out.tensor, rstd_post,
                            norm_spec()));
  if (!config.post_norms) drop(Slot::down);
  return out;
}

Array Layer::Pass::through_post_norm(const Tensor& d_sum, Slot branch, Slot rstd, size_t weight,
                                     std::span<Gradient> gradients) {
  if (!config.post_norms) return {d_sum, Buffer()};
  begin_adding(c, gradients[weight]);
  Array d_branch = temporary(config.d_model);
  c.launch(op::rms_norm_grad(d_sum, saved[branch].tensor, weights.tensors[weight], saved[rstd].tensor, {},
                             d_branch.tensor, gradients[weight].tensor, {}, norm_spec()));
  drop(branch);
  drop(rstd);
  return d_branch;
}

Layer::Layer(const DecoderConfig& config, int64_t index)
    : config_(config), local_(config.local[static_cast<size_t>(index)]) {}

Array Layer::forward(Context& c, const Weights& w, const Microbatch& batch, Array x, Saved& saved,
                     Keep keep) const {
  Pass pass(c, config_, local_, w, batch, saved);
  saved[Slot::x] = std::move(x);
  // Slots that do not survive are dropped as soon as the next one exists, so that only a few live at a time.
  static constexpr std::pair<Slot, std::array<Slot, 3>> kOrder[] = {
      {Slot::qkv, {Slot::h1, Slot::rstd1, Slot::count}},
      {Slot::attended, {Slot::qkv, Slot::rotated, Slot::rstd_qk}},
      {Slot::mid, {Slot::attended, Slot::lse, Slot::projected}},
      {Slot::pre, {Slot::h2, Slot::count, Slot::count}},
      {Slot::act, {Slot::pre, Slot::count, Slot::count}},
      {Slot::down, {Slot::act, Slot::count, Slot::count}},
  };
  const auto drop_unless_kept = [&](Slot slot) {
    if (slot != Slot::count && !keep.has(slot)) pass.drop(slot);
  };
  for (const auto& [slot, finished] : kOrder) {
    pass.value(slot);
    for (const Slot done : finished) drop_unless_kept(done);
  }
  Array out = pass.out();
  for (size_t slot = 0; slot < kSlots; ++slot) drop_unless_kept(static_cast<Slot>(slot));
  return out;
}

Array Layer::backward(Context& c, const Weights& w, const Microbatch& batch, Array d_out, Saved& saved,
                      std::span<Gradient> gradients) const {
  Pass pass(c, config_, local_, w, batch, saved);
  const int64_t D = config_.d_model;
  c.phase = Phase::recompute;
  pass.value(Slot::mid);
  pass.value(Slot::pre);
  if (config_.post_norms) pass.value(Slot::down), pass.value(Slot::rstd_post2);
  pass.value(Slot::rstd2);
  c.phase = Phase::backward;

  Array d_down =
      pass.through_post_norm(d_out.tensor, Slot::down, Slot::rstd_post2, mlp_post_norm(config_), gradients);
  {
    Array d_act = pass.temporary(config_.ffn);
    contract_backward(c, d_down.tensor, w.packs[down_pack], d_act.tensor, {config_.ffn}, 1);
    const bool have_act = static_cast<bool>(saved[Slot::act].tensor);
    if (!have_act) saved[Slot::act] = pass.temporary(config_.ffn);
    const Tensor pre = saved[Slot::pre].tensor;
    c.launch(op::activate_grad(d_act.tensor, pre, pre, have_act ? Tensor{} : saved[Slot::act].tensor,
                               pass.activation_spec()));
  }
  weight_gradient(c, d_down.tensor, saved[Slot::act].tensor, gradients.subspan(down_proj(config_), 1));
  pass.drop(Slot::act);
  d_down = Array{};

  const Tensor d_pre = saved[Slot::pre].tensor;
  Array d_mid = pass.temporary(D);
  {
    Array d_h2 = pass.temporary(D);
    contract_backward(c, d_pre, w.packs[pre_pack], d_h2.tensor, {config_.ffn, config_.ffn}, pass.slices());
    const bool have_h2 = static_cast<bool>(saved[Slot::h2].tensor);
    if (!have_h2) saved[Slot::h2] = pass.temporary(D);
    begin_adding(c, gradients[mlp_norm]);
    c.launch(op::rms_norm_grad(d_h2.tensor, saved[Slot::mid].tensor, w.tensors[mlp_norm],
                               saved[Slot::rstd2].tensor, d_out.tensor, d_mid.tensor,
                               gradients[mlp_norm].tensor, have_h2 ? Tensor{} : saved[Slot::h2].tensor,
                               pass.norm_spec()));
  }
  d_out = Array{};
  weight_gradient(c, d_pre, saved[Slot::h2].tensor, gradients.subspan(first_mlp, config_.gated_mlp ? 2 : 1));
  for (const Slot slot : {Slot::pre, Slot::h2, Slot::rstd2, Slot::mid}) pass.drop(slot);

  Array d_x = pass.temporary(D);
  attention_backward(pass, d_mid, gradients, d_x);
  saved = Saved{};
  return d_x;
}

void Layer::attention_backward(Pass& pass, const Array& d_mid, std::span<Gradient> gradients,
                               Array& d_x) const {
  Context& c = pass.c;
  Saved& saved = pass.saved;
  const Weights& w = pass.weights;
  const int64_t D = config_.d_model, q = config_.heads * config_.head_dim,
                kv = config_.kv_heads * config_.head_dim;
  c.phase = Phase::recompute;
  const Tensor rotated = pass.value(pass.attention_input());
  if (config_.qk_norm) pass.value(Slot::rstd_qk);
  pass.value(Slot::attended);
  pass.value(Slot::rstd1);
  c.phase = Phase::backward;

  Array d_projected = pass.through_post_norm(d_mid.tensor, Slot::projected, Slot::rstd_post1,
                                             attention_post_norm(config_), gradients);
  Array d_qkv = pass.temporary(config_.qkv_columns());
  {
    Array d_attended = pass.temporary(q);
    contract_backward(c, d_projected.tensor, w.packs[o_pack], d_attended.tensor, {D}, 1);
    weight_gradient(c, d_projected.tensor, saved[Slot::attended].tensor, gradients.subspan(o_proj, 1));
    d_projected = Array{};
    const Pass::Heads heads = pass.split(rotated), d_heads = pass.split(d_qkv.tensor);
    c.launch(op::attention_grad(d_attended.tensor, heads.q, heads.k, heads.v, saved[Slot::attended].tensor,
                                saved[Slot::lse].tensor, pass.batch.starts, d_heads.q, d_heads.k, d_heads.v,
                                pass.attention_spec()),
             pass.slices());
    pass.drop(Slot::attended);
    pass.drop(Slot::lse);
  }
  if (config_.qk_norm) {
    Gradient &dwq = gradients[q_norm(config_)], &dwk = gradients[k_norm(config_)];
    begin_adding(c, dwq);
    begin_adding(c, dwk);
    c.launch(op::rope_grad(d_qkv.tensor, pass.rope_table(), saved[Slot::qkv].tensor,
                           w.tensors[q_norm(config_)], w.tensors[k_norm(config_)],
                           saved[Slot::rstd_qk].tensor, d_qkv.tensor, dwq.tensor, dwk.tensor,
                           pass.rope_spec()));
  } else {
    c.launch(op::rope_grad(d_qkv.tensor, pass.rope_table(), {}, {}, {}, {}, d_qkv.tensor, {}, {},
                           pass.rope_spec()));
  }
  for (const Slot slot : {Slot::qkv, Slot::rotated, Slot::rstd_qk}) pass.drop(slot);
  {
    Array d_h1 = pass.temporary(D);
    contract_backward(c, d_qkv.tensor, w.packs[qkv_pack], d_h1.tensor, {q, kv, kv}, pass.slices());
    const bool have_h1 = static_cast<bool>(saved[Slot::h1].tensor);
    if (!have_h1) saved[Slot::h1] = pass.temporary(D);
    begin_adding(c, gradients[input_norm]);
    c.launch(op::rms_norm_grad(d_h1.tensor, saved[Slot::x].tensor, w.tensors[input_norm],
                               saved[Slot::rstd1].tensor, d_mid.tensor, d_x.tensor,
                               gradients[input_norm].tensor, have_h1 ? Tensor{} : saved[Slot::h1].tensor,
                               pass.norm_spec()));
  }
  weight_gradient(c, d_qkv.tensor, saved[Slot::h1].tensor, gradients.subspan(q_proj, 3));
}

Array Layer::extend(Context& c, const Weights& w, const Microbatch& batch, Array x, Cache& cache) const {
  require(batch.sequences == 1, "a cache holds one sequence");
  require(cache.length + batch.tokens <= cache.capacity, "the cache has room for the new tokens");
  Saved saved;
  Pass pass(c, config_, local_, w, batch, saved);
  saved[Slot::x] = std::move(x);
  const int64_t q = config_.heads * config_.head_dim;
  const Pass::Heads heads = pass.split(pass.value(pass.attention_input()));
  c.launch(op::cast(heads.k, cache.k.slice_rows(cache.length, batch.tokens)));
  c.launch(op::cast(heads.v, cache.v.slice_rows(cache.length, batch.tokens)));
  cache.length += batch.tokens;
  saved[Slot::attended] = c.array({batch.tokens, q}, kActivations);
  c.launch(op::attention(heads.q, cache.k.slice_rows(0, cache.length), cache.v.slice_rows(0, cache.length),
                         batch.starts, saved[Slot::attended].tensor, {}, pass.attention_spec()));
  return pass.out();
}

}  // namespace toroid
