// One pass over one layer, which computes slots on demand: for layer.cpp, which says what is asked for when.
#pragma once

#include <initializer_list>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "core/model/layer.h"
#include "core/model/product.h"
#include "core/model/share.h"
#include "core/op/activation.h"
#include "core/op/attention.h"
#include "core/op/matmul.h"
#include "core/op/norm.h"

namespace toroid {

class Layer::Pass {
 public:
  static constexpr const char* kActivations = "activations";

  // Indices of the unit's tensors and packs (decoder_units in decoder_config.cpp). Matrices that are
  // multiplied together are neighbours.
  enum Tensors : size_t { input_norm, q_proj, k_proj, v_proj, o_proj, mlp_norm };
  enum Packs : size_t { qkv_pack, o_pack, pre_pack, down_pack, kv_pack };  // kv_pack: whole keys and values
  // A parallel layer has no norm before its MLP.
  size_t first_mlp() const { return mlp_norm + (config.parallel_layers ? 0 : 1); }
  size_t down_proj() const { return first_mlp() + (config.gated_mlp ? 2 : 1); }
  size_t attention_post_norm() const { return down_proj() + 1; }
  size_t mlp_post_norm() const { return attention_post_norm() + 1; }
  size_t q_norm() const { return attention_post_norm() + (config.post_norms ? 2 : 0); }
  size_t k_norm() const { return q_norm() + 1; }

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
  // Has what the backward pass of attention reads.
  void recompute_heads();
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
            config.attention_softcap,
            !config.attend_across_documents};
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
  // y = dy W of all tokens' rows of a gradient for each of the products, and those rows.
  struct GradientProduct {
    const PackedMatrix& w;
    Tensor y;
  };
  Array gather_gradient(const Tensor& own, std::initializer_list<GradientProduct> products,
                        const char* what) const {
    return gather_rows(c, own, name(what), [&](const Tensor& rows, int64_t first) {
      for (const auto& [w, y] : products)
        c.launch(op::matmul_dx(rows, w.backward, y.slice_rows(first, rows.rows())));
    });
  }
  // `pre` in the sum of the gradient of its product's input, and the gradients of its matrices.
  BackwardTerm pre_term(const Tensor& d_pre) const {
    const BackwardTerm::Matrix branch{share.ffn, slices()};
    return {d_pre, weights.packs[pre_pack], {branch, branch}};
  }
  std::span<Gradient> of_pre(std::span<Gradient> gradients) const {
    return gradients.subspan(first_mlp(), config.gated_mlp ? 2 : 1);
  }
  const char* input_gradient_name() const {
    return config.parallel_layers ? "gradient of the input" : "gradient of the attention input";
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
  Array parallel_out();
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
  struct InputProduct {
    Packs pack;
    Tensor y;
  };
  void multiply_input(Slot own_slot, Slot all_slot, const char* what,
                      std::initializer_list<InputProduct> products);
  Tensor new_pre() { return all(Slot::pre, (config.gated_mlp ? 2 : 1) * share.ffn); }
  // Of the norm before attention.
  const char* input_name() const { return config.parallel_layers ? "input" : "attention input"; }
  void compute_all_kv();
  void attend();

  const Layer& layer_;
  int64_t own_rows_;
};

}  // namespace toroid
