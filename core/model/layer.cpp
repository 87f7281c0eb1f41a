#include "core/model/layer.h"

#include <utility>

#include "core/base/error.h"
#include "core/model/product.h"
#include "core/model/share.h"
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
enum LayerPack : size_t { qkv_pack, o_pack, pre_pack, down_pack, kv_pack };  // kv_pack: whole keys and values

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
constexpr const char *kAttentionInput = "attention input", *kMlpInput = "MLP input";

}  // namespace

Keep Keep::all() {
  return Keep((uint32_t{1} << kSlots) - 1).without(Slot::all_h1).without(Slot::all_h2);
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
  Pass(const Layer& layer, Context& context, const Weights& w, const Microbatch& b, Saved& s)
      : c(context),
        config(layer.config_),
        weights(w),
        batch(b),
        saved(s),
        share(config, c.model.place(), c.tiles.deterministic),
        layer_(layer),
        own_rows_(b.rows() / share.place.size) {
    require(b.rows() % share.place.size == 0, "the model axis divides the tokens");
  }

  const Tensor& value(Slot slot) {
    if (!saved[slot].tensor) compute(slot);
    return saved[slot].tensor;
  }
  void drop(Slot slot) { saved[slot] = Array{}; }
  // Has the gathered input of a product on its way, before what the backward pass needs later is.
  void begin_input(Slot own, Slot all) {
    if (alone()) return;
    c.phase = Phase::recompute;
    input(own, all);
    c.phase = Phase::backward;
  }
  // A norm's output, to be computed again by its gradient where it has not survived and is asked for.
  Tensor again(Slot slot) {
    if (!alone() || saved[slot].tensor) return {};
    saved[slot] = own_temporary(config.d_model);
    return saved[slot].tensor;
  }
  Array out();

  op::NormSpec norm_spec() const { return {config.norm_eps}; }
  // The first is for qkv, the second for keys and values on their own.
  op::RopeSpec rope_spec() const {
    return {share.heads, share.whole_kv ? 0 : share.kv_heads, config.head_dim, config.norm_eps};
  }
  op::RopeSpec kv_rope_spec() const { return {0, share.kv_heads, config.head_dim, config.norm_eps}; }
  op::ActivationSpec activation_spec() const { return {config.activation, config.gated_mlp}; }
  op::AttentionSpec attention_spec(const HeadRun& run) const {
    return {batch.sequences,
            run.heads,
            run.kv_heads,
            config.head_dim,
            config.attention_scale,
            layer_.local_ ? config.window : 0,
            config.attention_softcap};
  }
  const Tensor& rope_table() const { return layer_.local_ ? batch.rope_local : batch.rope_global; }
  Tensor own_rope_table() const { return c.model.own(rope_table()); }
  Tensor post_weight(size_t index) const { return config.post_norms ? weights.tensors[index] : Tensor{}; }
  int64_t slices() const { return share.slices; }
  // Keys and values are slices of their own only where every canonical slice has some.
  int64_t kv_slices() const {
    return !share.whole_kv && share.kv_heads % share.slices == 0 ? share.slices : 1;
  }
  Slot attention_input() const { return config.qk_norm ? Slot::rotated : Slot::qkv; }
  // The gradient of a branch's result from that of the sum it was added to: the same tensor, borrowed, or,
  // where the branch has a post-norm, the gradient through it. The norm's input and rstd are used up.
  Array through_post_norm(const Tensor& d_sum, Slot branch, Slot rstd, size_t weight,
                          std::span<Gradient> gradients);
  bool alone() const { return share.place.size == 1; }
  // What a product's weights are multiplied with in the backward pass: a norm's output, of all tokens.
  const Tensor& input(Slot own, Slot all) { return value(alone() ? own : all); }
  // y = dy W^T of all tokens' rows of a gradient, and those rows.
  Array gather_gradient(const Tensor& own, const PackedMatrix& w, const Tensor& y, const char* what) const {
    return gather_rows(c, own, name(what), [&](const Tensor& rows, int64_t first) {
      c.launch(op::matmul_dx(rows, w.backward, y.slice_rows(first, rows.rows())));
    });
  }
  std::string name(const char* what) const { return layer_.name_ + what; }
  Array own_temporary(int64_t columns) { return c.array({own_rows_, columns}, kTemporary); }
  Array temporary(int64_t columns) { return c.array({batch.rows(), columns}, kTemporary); }

  // Queries, keys and values of all tokens, or their gradients. `kv` where those are apart.
  struct Heads {
    Tensor q, k, v;
  };
  Heads split(const Tensor& qkv, const Tensor& kv) const {
    const int64_t each = share.kv_heads * config.head_dim, q = share.heads * config.head_dim;
    const Tensor queries = qkv.slice_columns(0, q);
    if (kv) return {queries, kv.slice_columns(0, each), kv.slice_columns(each, each)};
    return {queries, qkv.slice_columns(q, each), qkv.slice_columns(q + each, each)};
  }
  Heads attention_inputs() {
    // What is gathered of keys and values travels while queries are multiplied.
    const Tensor kv = share.whole_kv ? value(Slot::all_kv) : Tensor{};
    return split(value(attention_input()), kv);
  }
  Tensor columns(const Tensor& of, int64_t head, int64_t heads) const {
    return of.slice_columns(head * config.head_dim, heads * config.head_dim);
  }

  Context& c;
  const DecoderConfig& config;
  const Weights& weights;
  const Microbatch& batch;
  Saved& saved;
  const ModelShare share;

 private:
  void compute(Slot slot);
  const Tensor& fresh(Slot slot, int64_t rows, int64_t columns) {
    saved[slot] = c.array({rows, columns}, kActivations);
    return saved[slot].tensor;
  }
  const Tensor& own(Slot slot, int64_t columns) { return fresh(slot, own_rows_, columns); }
  const Tensor& all(Slot slot, int64_t columns) { return fresh(slot, batch.rows(), columns); }
  const Tensor& fresh_f32(Slot slot, Shape shape) {
    saved[slot] = c.array_f32(shape, kActivations);
    return saved[slot].tensor;
  }
  void multiply_input(Slot own_slot, Slot all_slot, const char* what, LayerPack pack, const Tensor& y);
  void compute_all_kv();
  void attend();

  const Layer& layer_;
  int64_t own_rows_;
};

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
      multiply_input(Slot::h1, Slot::all_h1, kAttentionInput, qkv_pack, qkv);
      if (!config.qk_norm) c.launch(op::rope(qkv, rope_table(), {}, {}, qkv, {}, rope_spec()));
      return;
    }
    case Slot::all_h1: {
      const Tensor h1 = value(Slot::h1);
      saved[slot] = gather_rows(c, h1, name(kAttentionInput), {}, kActivations);
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
      c.launch(op::rope(qkv, rope_table(), weights.tensors[q_norm(config)], weights.tensors[k_norm(config)],
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
      saved[slot] = contract(c, attended, weights.packs[o_pack].forward, slices(), name("attention output"),
                             kActivations);
      return;
    }
    case Slot::mid:
    case Slot::rstd_post1: {
      const Tensor x = value(Slot::x), projected = value(Slot::projected);
      const Tensor rstd_post = config.post_norms ? fresh_f32(Slot::rstd_post1, {own_rows_}) : Tensor{};
      c.launch(op::residual_norm(x, projected, post_weight(attention_post_norm(config)),
                                 weights.tensors[mlp_norm], own(Slot::mid, D), own(Slot::h2, D),
                                 fresh_f32(Slot::rstd2, {own_rows_}), rstd_post, norm_spec()));
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
      const Tensor pre = all(Slot::pre, (config.gated_mlp ? 2 : 1) * share.ffn);
      multiply_input(Slot::h2, Slot::all_h2, kMlpInput, pre_pack, pre);
      return;
    }
    case Slot::act: {
      const Tensor pre = value(Slot::pre);
      c.launch(op::activate(pre, all(Slot::act, share.ffn), activation_spec()));
      return;
    }
    case Slot::down: {
      const Tensor act = value(Slot::act);
      saved[slot] =
          contract(c, act, weights.packs[down_pack].forward, slices(), name("MLP output"), kActivations);
      return;
    }
    case Slot::rstd_post2: {
      // Only the sum's post-norm gives it; the sum itself is not wanted again.
      Array unused = c.array({own_rows_, D}, kTemporary);
      const Tensor mid = value(Slot::mid), down = value(Slot::down);
      c.launch(op::residual_add(mid, down, post_weight(mlp_post_norm(config)), unused.tensor,
                                fresh_f32(Slot::rstd_post2, {own_rows_}), norm_spec()));
      return;
    }
    case Slot::x:
    case Slot::count:
      break;
  }
  throw InternalError("a layer's input did not survive to its backward pass");
}

// y = x W^T of all tokens' rows x of a norm's output.
void Layer::Pass::multiply_input(Slot own_slot, Slot all_slot, const char* what, LayerPack pack,
                                 const Tensor& y) {
  const RowWork product = [&](const Tensor& rows, int64_t first) {
    c.launch(op::matmul(rows, weights.packs[pack].forward, y.slice_rows(first, rows.rows())));
  };
  if (alone() || saved[all_slot].tensor)
    return product(alone() ? value(own_slot) : saved[all_slot].tensor, 0);
  const Tensor own = value(own_slot);
  saved[all_slot] = gather_rows(c, own, name(what), product, kActivations);
}

void Layer::Pass::compute_all_kv() {
  const Tensor kv = value(Slot::kv);
  Array rotated;
  if (config.qk_norm) {
    rotated = c.array(kv.shape, kTemporary);
    c.launch(op::rope(kv, own_rope_table(), weights.tensors[q_norm(config)], weights.tensors[k_norm(config)],
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

Array Layer::Pass::out() {
  value(Slot::down);
  const Tensor mid = value(Slot::mid);
  Array out = c.array({own_rows_, config.d_model}, kActivations);
  const Tensor rstd_post = config.post_norms ? fresh_f32(Slot::rstd_post2, {own_rows_}) : Tensor{};
  c.launch(op::residual_add(mid, value(Slot::down), post_weight(mlp_post_norm(config)), out.tensor, rstd_post,
                            norm_spec()));
  if (!config.post_norms) drop(Slot::down);
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

Layer::Layer(const DecoderConfig& config, int64_t index)
    : config_(config),
      name_("layer." + std::to_string(index) + " "),
      local_(config.local[static_cast<size_t>(index)]) {}

Array Layer::forward(Context& c, const Weights& w, const Microbatch& batch, Array x, Saved& saved,
                     Keep keep) const {
  Pass pass(*this, c, w, batch, saved);
  saved[Slot::x] = std::move(x);
  // Slots that do not survive are dropped as soon as the next one exists, so that only a few live at a time.
  using Slots = std::initializer_list<Slot>;
  const auto drop_unless_kept = [&](Slot slot) {
    if (!keep.has(slot)) pass.drop(slot);
  };
  const auto reach = [&](Slot slot, Slots finished) {
    pass.value(slot);
    for (const Slot done : finished) drop_unless_kept(done);
  };
  if (pass.share.whole_kv) reach(Slot::all_kv, {Slot::kv, Slot::rstd_k});
  reach(Slot::qkv, {Slot::h1, Slot::all_h1, Slot::rstd1});
  reach(Slot::attended, {Slot::qkv, Slot::rotated, Slot::rstd_qk, Slot::all_kv});
  reach(Slot::mid, {Slot::attended, Slot::lse, Slot::projected});
  reach(Slot::pre, {Slot::h2, Slot::all_h2});
  reach(Slot::act, {Slot::pre});
  reach(Slot::down, {Slot::act});
  Array out = pass.out();
  for (size_t slot = 0; slot < kSlots; ++slot) drop_unless_kept(static_cast<Slot>(slot));
  return out;
}

Array Layer::backward(Context& c, const Weights& w, const Microbatch& batch, Array d_out, Saved& saved,
                      std::span<Gradient> gradients) const {
  Pass pass(*this, c, w, batch, saved);
  const int64_t D = config_.d_model, F = pass.share.ffn;
  c.phase = Phase::recompute;
  pass.value(Slot::mid);
  pass.value(Slot::pre);
  if (config_.post_norms) pass.value(Slot::down), pass.value(Slot::rstd_post2);
  pass.value(Slot::rstd2);
  c.phase = Phase::backward;

  {
    const Array d_branch =
        pass.through_post_norm(d_out.tensor, Slot::down, Slot::rstd_post2, mlp_post_norm(config_), gradients);
    Array d_act = pass.temporary(F);
    const Array d_down =
        pass.gather_gradient(d_branch.tensor, w.packs[down_pack], d_act.tensor, "gradient of the MLP output");
    pass.begin_input(Slot::h2, Slot::all_h2);
    const bool have_act = static_cast<bool>(saved[Slot::act].tensor);
    if (!have_act) saved[Slot::act] = pass.temporary(F);
    const Tensor pre = saved[Slot::pre].tensor;
    c.launch(op::activate_grad(d_act.tensor, pre, pre, have_act ? Tensor{} : saved[Slot::act].tensor,
                               pass.activation_spec()));
    d_act = Array{};
    weight_gradient(c, d_down.tensor, saved[Slot::act].tensor, gradients.subspan(down_proj(config_), 1));
    pass.drop(Slot::act);
  }

  const Tensor d_pre = saved[Slot::pre].tensor;
  const auto pre_gradient = [&] {
    weight_gradient(c, d_pre, pass.input(Slot::h2, Slot::all_h2),
                    gradients.subspan(first_mlp, config_.gated_mlp ? 2 : 1));
  };
  Array d_mid = pass.own_temporary(D);
  {
    const BackwardTerm::Matrix branch{F, pass.slices()};
    Array sum = contract_backward(c, {d_pre, w.packs[pre_pack], {branch, branch}},
                                  pass.name("gradient of the MLP input"));
    if (!pass.alone()) pre_gradient();  // while the sum travels
    const Array d_h2 = rounded(c, std::move(sum), kTemporary);
    begin_adding(c, gradients[mlp_norm]);
    c.launch(op::rms_norm_grad(d_h2.tensor, saved[Slot::mid].tensor, w.tensors[mlp_norm],
                               saved[Slot::rstd2].tensor, d_out.tensor, d_mid.tensor,
                               gradients[mlp_norm].tensor, pass.again(Slot::h2), pass.norm_spec()));
  }
  d_out = Array{};
  if (pass.alone()) pre_gradient();
  for (const Slot slot : {Slot::pre, Slot::h2, Slot::all_h2, Slot::rstd2, Slot::mid}) pass.drop(slot);

  Array d_x = pass.own_temporary(D);
  attention_backward(pass, d_mid, gradients, d_x);
  saved = Saved{};
  return d_x;
}

void Layer::attention_backward(Pass& pass, const Array& d_mid, std::span<Gradient> gradients,
                               Array& d_x) const {
  Context& c = pass.c;
  Saved& saved = pass.saved;
  const Weights& w = pass.weights;
  const ModelShare& share = pass.share;
  const int64_t q = share.heads * config_.head_dim, kv = share.kv_heads * config_.head_dim;
  c.phase = Phase::recompute;
  const Pass::Heads heads = pass.attention_inputs();
  if (config_.qk_norm) pass.value(Slot::rstd_qk);
  pass.value(Slot::attended);
  pass.value(Slot::rstd1);
  c.phase = Phase::backward;

  Array d_qkv, d_kv;
  {
    Array d_branch = pass.through_post_norm(d_mid.tensor, Slot::projected, Slot::rstd_post1,
                                            attention_post_norm(config_), gradients);
    Array d_attended = pass.temporary(q);
    Array d_projected = pass.gather_gradient(d_branch.tensor, w.packs[o_pack], d_attended.tensor,
                                             "gradient of the attention output");
    pass.begin_input(Slot::h1, Slot::all_h1);
    d_qkv = pass.temporary(share.qkv_columns(config_.head_dim));
    const auto terms = static_cast<int64_t>(share.kv_terms.size());
    if (share.whole_kv || terms > 1) {
      // A term's query heads may leave some of the key/value heads out.
      d_kv = c.array_f32({terms * pass.batch.rows(), 2 * kv}, kTemporary);
      c.launch(op::fill(d_kv.tensor, {0}));
    }
    weight_gradient(c, d_projected.tensor, saved[Slot::attended].tensor, gradients.subspan(o_proj, 1));
    d_projected = Array{};
    d_branch = Array{};
    const auto term = [&](int64_t i) {
      return d_kv.tensor ? d_kv.tensor.slice_rows(i * pass.batch.rows(), pass.batch.rows()) : Tensor{};
    };
    for (int64_t i = 0; i < terms; ++i) {
      const Pass::Heads d_heads = pass.split(d_qkv.tensor, term(i));
      for (const HeadRun& run : share.kv_terms[static_cast<size_t>(i)]) {
        const auto of_queries = [&](const Tensor& t) { return pass.columns(t, run.head, run.heads); };
        const auto of_keys = [&](const Tensor& t) { return pass.columns(t, run.kv_head, run.kv_heads); };
        c.launch(op::attention_grad(of_queries(d_attended.tensor), of_queries(heads.q), of_keys(heads.k),
                                    of_keys(heads.v), of_queries(saved[Slot::attended].tensor),
                                    saved[Slot::lse].tensor.slice_rows(run.head, run.heads),
                                    pass.batch.starts, of_queries(d_heads.q), of_keys(d_heads.k),
                                    of_keys(d_heads.v), pass.attention_spec(run)),
                 terms > 1 ? 1 : pass.slices());
      }
    }
    for (int64_t step = 1; step < terms; step *= 2) {
      for (int64_t i = 0; i < terms; i += 2 * step) c.launch(op::add(term(i + step), term(i)));
    }
    if (d_kv.tensor) d_kv.tensor = term(0);
    if (terms > 1 && !share.whole_kv) {
      c.launch(op::cast(d_kv.tensor, d_qkv.tensor.slice_columns(q, 2 * kv)));
      d_kv = Array{};
    }
    for (const Slot slot : {Slot::attended, Slot::lse, Slot::all_kv}) pass.drop(slot);
  }
  // The sum of the keys' and values' gradients travels first, and while it does what it does not concern is
  // done.
  Array kv_sum;
  if (share.whole_kv) kv_sum = scatter_sum(c, std::move(d_kv), {}, pass.name("gradient of keys and values"));
  turn_back(pass, d_qkv.tensor,
            {pass.rope_table(), Slot::qkv, Slot::rstd_qk, pass.rope_spec(), pass.slices()}, gradients);
  for (const Slot slot : {Slot::qkv, Slot::rotated, Slot::rstd_qk}) pass.drop(slot);
  const BackwardTerm::Matrix of_q{q, pass.slices()}, of_kv{kv, pass.kv_slices()};
  const auto qkv_gradient = [&] {
    weight_gradient(c, d_qkv.tensor, pass.input(Slot::h1, Slot::all_h1),
                    gradients.subspan(q_proj, share.whole_kv ? 1 : 3));
  };
  Array sum = contract_backward(c, {d_qkv.tensor, w.packs[qkv_pack], {of_q, of_kv, of_kv}},
                                pass.name("gradient of the attention input"));
  if (!pass.alone()) qkv_gradient();
  if (share.whole_kv) {
    const Array d_own_kv = rounded(c, std::move(kv_sum), kTemporary);
    turn_back(pass, d_own_kv.tensor, {pass.own_rope_table(), Slot::kv, Slot::rstd_k, pass.kv_rope_spec(), 1},
              gradients);
    for (const Slot slot : {Slot::kv, Slot::rstd_k}) pass.drop(slot);
    weight_gradient(c, d_own_kv.tensor, c.model.own(pass.input(Slot::h1, Slot::all_h1)),
                    gradients.subspan(k_proj, 2));
    add_backward(c, {d_own_kv.tensor, w.packs[kv_pack], {of_kv, of_kv}}, sum.tensor);
  }
  const Array d_h1 = rounded(c, std::move(sum), kTemporary);
  begin_adding(c, gradients[input_norm]);
  c.launch(op::rms_norm_grad(d_h1.tensor, saved[Slot::x].tensor, w.tensors[input_norm],
                             saved[Slot::rstd1].tensor, d_mid.tensor, d_x.tensor,
                             gradients[input_norm].tensor, pass.again(Slot::h1), pass.norm_spec()));
  if (pass.alone()) qkv_gradient();
}

// The inverse rotations of d, in place, and the gradients of the norms before them.
void Layer::turn_back(Pass& pass, const Tensor& d, const Turn& turn, std::span<Gradient> gradients) const {
  Context& c = pass.c;
  Tensor before, rstd, wq, wk, dwq, dwk;
  if (config_.qk_norm) {
    before = pass.saved[turn.before].tensor;
    rstd = pass.saved[turn.rstd].tensor;
    wq = pass.weights.tensors[q_norm(config_)];
    wk = pass.weights.tensors[k_norm(config_)];
    begin_adding(c, gradients[q_norm(config_)]);
    begin_adding(c, gradients[k_norm(config_)]);
    dwq = gradients[q_norm(config_)].tensor;
    dwk = gradients[k_norm(config_)].tensor;
  }
  c.launch(op::rope_grad(d, turn.table, before, wq, wk, rstd, d, dwq, dwk, turn.spec), turn.slices);
}

Array Layer::extend(Context& c, const Weights& w, const Microbatch& batch, Array x, Cache& cache) const {
  require(batch.sequences == 1, "a cache holds one sequence");
  require(cache.length + batch.tokens <= cache.capacity, "the cache has room for the new tokens");
  Saved saved;
  Pass pass(*this, c, w, batch, saved);
  require(pass.share.place.size == 1, "generation runs on a model that is whole");
  saved[Slot::x] = std::move(x);
  const Pass::Heads heads = pass.attention_inputs();
  c.launch(op::cast(heads.k, cache.k.slice_rows(cache.length, batch.tokens)));
  c.launch(op::cast(heads.v, cache.v.slice_rows(cache.length, batch.tokens)));
  cache.length += batch.tokens;
  saved[Slot::attended] = c.array({batch.tokens, config_.heads * config_.head_dim}, kActivations);
  c.launch(op::attention(heads.q, cache.k.slice_rows(0, cache.length), cache.v.slice_rows(0, cache.length),
                         batch.starts, saved[Slot::attended].tensor, {},
                         pass.attention_spec(pass.share.runs[0])));
  return pass.out();
}

}  // namespace toroid
