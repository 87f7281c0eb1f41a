#include "core/model/layer.h"

#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/model/layer_pass.h"
#include "core/op/elementwise.h"

namespace toroid {

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
  if (!config_.parallel_layers) {
    reach(Slot::mid, {Slot::attended, Slot::lse, Slot::projected});
    reach(Slot::pre, {Slot::h2, Slot::all_h2});
  }
  reach(Slot::act, {Slot::pre});
  if (!config_.parallel_layers) reach(Slot::down, {Slot::act});
  Array out = pass.out();
  for (size_t slot = 0; slot < kSlots; ++slot) drop_unless_kept(static_cast<Slot>(slot));
  return out;
}

Array Layer::backward(Context& c, const Weights& w, const Microbatch& batch, Array d_out, Saved& saved,
                      std::span<Gradient> gradients) const {
  Pass pass(*this, c, w, batch, saved);
  Array d_x = config_.parallel_layers ? parallel_backward(pass, std::move(d_out), gradients)
                                      : serial_backward(pass, std::move(d_out), gradients);
  saved = Saved{};
  return d_x;
}

Array Layer::serial_backward(Pass& pass, Array d_out, std::span<Gradient> gradients) const {
  Context& c = pass.c;
  Saved& saved = pass.saved;
  const Weights& w = pass.weights;
  const int64_t D = config_.d_model, F = pass.share.ffn;
  c.phase = Phase::recompute;
  pass.value(Slot::mid);
  pass.value(Slot::pre);
  if (config_.post_norms) pass.value(Slot::down), pass.value(Slot::rstd_post2);
  pass.value(Slot::rstd2);
  c.phase = Phase::backward;

  {
    const Array d_branch =
        pass.through_post_norm(d_out.tensor, Slot::down, Slot::rstd_post2, pass.mlp_post_norm(), gradients);
    Array d_act = pass.temporary(F);
    const Array d_down = pass.gather_gradient(d_branch.tensor, {{w.packs[Pass::down_pack], d_act.tensor}},
                                              "gradient of the MLP output");
    pass.begin_input(Slot::h2, Slot::all_h2);
    activation_backward(pass, d_down.tensor, std::move(d_act), gradients);
  }

  const Tensor d_pre = saved[Slot::pre].tensor;
  const auto pre_gradient = [&] {
    weight_gradient(c, d_pre, pass.input(Slot::h2, Slot::all_h2), pass.of_pre(gradients));
  };
  Array d_mid = pass.own_temporary(D);
  {
    const BackwardTerm term = pass.pre_term(d_pre);
    Array sum = contract_backward(c, {&term, 1}, pass.name("gradient of the MLP input"));
    if (!pass.alone()) pre_gradient();  // while the sum travels
    const Array d_h2 = rounded(c, std::move(sum), kTemporary);
    begin_adding(c, gradients[Pass::mlp_norm]);
    c.launch(op::rms_norm_grad(d_h2.tensor, saved[Slot::mid].tensor, w.tensors[Pass::mlp_norm],
                               saved[Slot::rstd2].tensor, d_out.tensor, d_mid.tensor,
                               gradients[Pass::mlp_norm].tensor, pass.again(Slot::h2), pass.norm_spec()));
  }
  d_out = Array{};
  if (pass.alone()) pre_gradient();
  for (const Slot slot : {Slot::pre, Slot::h2, Slot::all_h2, Slot::rstd2, Slot::mid}) pass.drop(slot);

  pass.recompute_heads();
  HeadGradients d_heads;
  {
    Array d_branch = pass.through_post_norm(d_mid.tensor, Slot::projected, Slot::rstd_post1,
                                            pass.attention_post_norm(), gradients);
    Array d_attended = pass.temporary(pass.share.heads * config_.head_dim);
    Array d_projected = pass.gather_gradient(d_branch.tensor, {{w.packs[Pass::o_pack], d_attended.tensor}},
                                             "gradient of the attention output");
    pass.begin_input(Slot::h1, Slot::all_h1);
    weight_gradient(c, d_projected.tensor, saved[Slot::attended].tensor, gradients.subspan(Pass::o_proj, 1));
    d_projected = Array{};
    d_branch = Array{};
    d_heads = heads_backward(pass, std::move(d_attended));
  }
  return input_backward(pass, std::move(d_heads), {}, d_mid.tensor, gradients);
}

// Neither branch's output is asked for: nothing here reads it, so nothing computes it again.
Array Layer::parallel_backward(Pass& pass, Array d_out, std::span<Gradient> gradients) const {
  Context& c = pass.c;
  const Weights& w = pass.weights;
  pass.recompute_heads();
  c.phase = Phase::recompute;
  const Tensor d_pre = pass.value(Slot::pre);  // in place
  c.phase = Phase::backward;

  HeadGradients d_heads;
  {
    Array d_attended = pass.temporary(pass.share.heads * config_.head_dim),
          d_act = pass.temporary(pass.share.ffn);
    const Array d_sum = pass.gather_gradient(
        d_out.tensor, {{w.packs[Pass::o_pack], d_attended.tensor}, {w.packs[Pass::down_pack], d_act.tensor}},
        "gradient of the output");
    pass.begin_input(Slot::h1, Slot::all_h1);
    activation_backward(pass, d_sum.tensor, std::move(d_act), gradients);
    weight_gradient(c, d_sum.tensor, pass.saved[Slot::attended].tensor, gradients.subspan(Pass::o_proj, 1));
    d_heads = heads_backward(pass, std::move(d_attended));
  }
  return input_backward(pass, std::move(d_heads), d_pre, d_out.tensor, gradients);
}

// From the gradient of `act` to that of `pre`, in its place, and that of the down projection.
void Layer::activation_backward(Pass& pass, const Tensor& d_down, Array d_act,
                                std::span<Gradient> gradients) const {
  Context& c = pass.c;
  Saved& saved = pass.saved;
  const bool have_act = static_cast<bool>(saved[Slot::act].tensor);
  if (!have_act) saved[Slot::act] = pass.temporary(pass.share.ffn);
  const Tensor pre = saved[Slot::pre].tensor;
  c.launch(op::activate_grad(d_act.tensor, pre, pre, have_act ? Tensor{} : saved[Slot::act].tensor,
                             pass.activation_spec()));
  d_act = Array{};
  weight_gradient(c, d_down, saved[Slot::act].tensor, gradients.subspan(pass.down_proj(), 1));
  pass.drop(Slot::act);
}

Layer::HeadGradients Layer::heads_backward(Pass& pass, Array d_attended) const {
  Context& c = pass.c;
  Saved& saved = pass.saved;
  const ModelShare& share = pass.share;
  const int64_t q = share.heads * config_.head_dim, kv = share.kv_heads * config_.head_dim;
  const Pass::Heads heads = pass.attention_inputs();
  HeadGradients d{pass.temporary(share.qkv_columns(config_.head_dim)), {}};
  const auto terms = static_cast<int64_t>(share.kv_terms.size());
  if (share.whole_kv || terms > 1) {
    // A term's query heads may leave some of the key/value heads out.
    d.kv = c.array_f32({terms * pass.batch.rows(), 2 * kv}, kTemporary);
    c.launch(op::fill(d.kv.tensor, {0}));
  }
  const auto term = [&](int64_t i) {
    return d.kv.tensor ? d.kv.tensor.slice_rows(i * pass.batch.rows(), pass.batch.rows()) : Tensor{};
  };
  for (int64_t i = 0; i < terms; ++i) {
    const Pass::Heads d_heads = pass.split(d.qkv.tensor, term(i));
    for (const HeadRun& run : share.kv_terms[static_cast<size_t>(i)]) {
      const auto of_queries = [&](const Tensor& t) { return pass.columns(t, run.head, run.heads); };
      const auto of_keys = [&](const Tensor& t) { return pass.columns(t, run.kv_head, run.kv_heads); };
      c.launch(op::attention_grad(of_queries(d_attended.tensor), of_queries(heads.q), of_keys(heads.k),
                                  of_keys(heads.v), of_queries(saved[Slot::attended].tensor),
                                  saved[Slot::lse].tensor.slice_rows(run.head, run.heads), pass.batch.starts,
                                  of_queries(d_heads.q), of_keys(d_heads.k), of_keys(d_heads.v),
                                  pass.attention_spec(run)),
               terms > 1 ? 1 : pass.slices());
    }
  }
  for (int64_t step = 1; step < terms; step *= 2) {
    for (int64_t i = 0; i < terms; i += 2 * step) c.launch(op::add(term(i + step), term(i)));
  }
  if (d.kv.tensor) d.kv.tensor = term(0);
  if (terms > 1 && !share.whole_kv) {
    c.launch(op::cast(d.kv.tensor, d.qkv.tensor.slice_columns(q, 2 * kv)));
    d.kv = Array{};
  }
  for (const Slot slot : {Slot::attended, Slot::lse, Slot::all_kv}) pass.drop(slot);
  return d;
}

Array Layer::input_backward(Pass& pass, HeadGradients d_heads, const Tensor& d_pre, const Tensor& d_skip,
                            std::span<Gradient> gradients) const {
  Context& c = pass.c;
  Saved& saved = pass.saved;
  const Weights& w = pass.weights;
  const ModelShare& share = pass.share;
  const Tensor d_qkv = d_heads.qkv.tensor;
  // The sum of the keys' and values' gradients travels first, and while it does what it does not concern is
  // done.
  Array kv_sum;
  if (share.whole_kv)
    kv_sum = scatter_sum(c, std::move(d_heads.kv), {}, pass.name("gradient of keys and values"));
  turn_back(pass, d_qkv, {pass.rope_table(), Slot::qkv, Slot::rstd_qk, pass.rope_spec(), pass.slices()},
            gradients);
  for (const Slot slot : {Slot::qkv, Slot::rotated, Slot::rstd_qk}) pass.drop(slot);
  const auto input_gradients = [&] {
    const Tensor input = pass.input(Slot::h1, Slot::all_h1);
    weight_gradient(c, d_qkv, input, gradients.subspan(Pass::q_proj, share.whole_kv ? 1 : 3));
    if (d_pre) weight_gradient(c, d_pre, input, pass.of_pre(gradients));
  };
  const BackwardTerm::Matrix of_q{share.heads * config_.head_dim, pass.slices()},
      of_kv{share.kv_heads * config_.head_dim, pass.kv_slices()};
  std::vector<BackwardTerm> terms;
  // Before keys and values, which are added last where they are whole: the order of the sum is one.
  if (d_pre) terms.push_back(pass.pre_term(d_pre));
  terms.push_back({d_qkv, w.packs[Pass::qkv_pack], {of_q, of_kv, of_kv}});
  Array sum = contract_backward(c, terms, pass.name(pass.input_gradient_name()));
  if (!pass.alone()) input_gradients();
  if (share.whole_kv) {
    const Array d_own_kv = rounded(c, std::move(kv_sum), kTemporary);
    turn_back(pass, d_own_kv.tensor, {pass.own_rope_table(), Slot::kv, Slot::rstd_k, pass.kv_rope_spec(), 1},
              gradients);
    for (const Slot slot : {Slot::kv, Slot::rstd_k}) pass.drop(slot);
    weight_gradient(c, d_own_kv.tensor, c.model.own(pass.input(Slot::h1, Slot::all_h1)),
                    gradients.subspan(Pass::k_proj, 2));
    add_backward(c, {d_own_kv.tensor, w.packs[Pass::kv_pack], {of_kv, of_kv}}, sum.tensor);
  }
  const Array d_h1 = rounded(c, std::move(sum), kTemporary);
  Array d_x = pass.own_temporary(config_.d_model);
  begin_adding(c, gradients[Pass::input_norm]);
  c.launch(op::rms_norm_grad(d_h1.tensor, saved[Slot::x].tensor, w.tensors[Pass::input_norm],
                             saved[Slot::rstd1].tensor, d_skip, d_x.tensor,
                             gradients[Pass::input_norm].tensor, pass.again(Slot::h1), pass.norm_spec()));
  if (pass.alone()) input_gradients();
  return d_x;
}

// The inverse rotations of d, in place, and the gradients of the norms before them.
void Layer::turn_back(Pass& pass, const Tensor& d, const Turn& turn, std::span<Gradient> gradients) const {
  Context& c = pass.c;
  Tensor before, rstd, wq, wk, dwq, dwk;
  if (config_.qk_norm) {
    before = pass.saved[turn.before].tensor;
    rstd = pass.saved[turn.rstd].tensor;
    wq = pass.weights.tensors[pass.q_norm()];
    wk = pass.weights.tensors[pass.k_norm()];
    begin_adding(c, gradients[pass.q_norm()]);
    begin_adding(c, gradients[pass.k_norm()]);
    dwq = gradients[pass.q_norm()].tensor;
    dwk = gradients[pass.k_norm()].tensor;
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
  saved[Slot::attended] = c.array({batch.tokens, config_.heads * config_.head_dim}, Pass::kActivations);
  c.launch(op::attention(heads.q, cache.k.slice_rows(0, cache.length), cache.v.slice_rows(0, cache.length),
                         batch.starts, saved[Slot::attended].tensor, {},
                         pass.attention_spec(pass.share.runs[0])));
  return pass.out();
}

}  // namespace toroid
