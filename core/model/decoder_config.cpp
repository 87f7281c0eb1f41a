#include "core/model/decoder_config.h"

#include <cmath>

#include "core/base/error.h"
#include "core/model/model.pb.h"
#include "core/model/share.h"

namespace toroid {

int64_t DecoderConfig::canonical_slices() const {
  int64_t slices = 16;
  while (heads % slices != 0 || ffn % slices != 0) slices /= 2;
  return slices;
}

// By name: the numbers of the two are their own.
op::Activation activation_of_config(int wanted) {
  using config::ModelConfig;
  static_assert(ModelConfig::Activation_ARRAYSIZE == op::activation::All::kSize,
                "an activation of model.proto has no line in core/op/activation/all.h, or the reverse");
  const std::string name = ModelConfig::Activation_IsValid(wanted)
                               ? ModelConfig::Activation_Name(static_cast<ModelConfig::Activation>(wanted))
                               : "number " + std::to_string(wanted);
  for (const op::Activation one : op::all_activations()) {
    if (op::description_of(one).name == name) return one;
  }
  throw UserError("model.activation is " + name +
                  ", which this version cannot compute: it has no line in core/op/activation/all.h");
}

DecoderConfig decoder_config(const config::ModelConfig& model) {
  DecoderConfig out;
  out.d_model = model.d_model();
  out.layers = model.layers();
  out.heads = model.heads();
  out.kv_heads = model.has_kv_heads() ? model.kv_heads() : model.heads();
  out.head_dim = model.head_dim();
  out.ffn = model.ffn();
  out.vocab = model.vocab();
  out.gated_mlp = model.mlp() == config::ModelConfig::GATED;
  out.activation = activation_of_config(model.activation());
  out.tied_head = model.tied_head();
  out.norm_eps = model.norm_eps();
  out.post_norms = model.post_norms();
  out.qk_norm = model.qk_norm();
  out.parallel_layers = model.parallel_layers();
  out.attention_softcap = model.attention_softcap();
  out.logit_softcap = model.logit_softcap();
  const double scalar = model.has_query_pre_attn_scalar() ? model.query_pre_attn_scalar()
                                                          : static_cast<double>(model.head_dim());
  out.attention_scale = 1.0 / std::sqrt(scalar);
  out.window = model.window();
  out.local.assign(static_cast<size_t>(out.layers), false);
  for (int64_t layer = 0; layer < out.layers && model.layer_pattern_size() > 0; ++layer) {
    const int at = static_cast<int>(layer % model.layer_pattern_size());
    out.local[static_cast<size_t>(layer)] = model.layer_pattern(at) == config::ModelConfig::LOCAL;
  }
  out.rope_base = model.rope().base();
  out.rope_local_base = model.rope().has_local_base() ? model.rope().local_base() : model.rope().base();
  out.rope_scale = model.rope().scale();
  out.attend_across_documents = model.attend_across_documents();
  out.embedding_stddev = model.init().embedding();
  out.linear_stddev = model.init().linear();
  return out;
}

namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";

UnitSpec layer_unit(const DecoderConfig& c, int64_t layer, bool whole_kv, bool apart) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const int64_t D = c.d_model, q = c.heads * c.head_dim, kv = c.kv_heads * c.head_dim;
  UnitSpec unit{"layer." + std::to_string(layer), {}, {}, false};
  const auto norm = [&](const char* name, int64_t size) {
    unit.tensors.push_back({prefix + name + ".weight", {size}, -1, 0, false, 0});
  };
  const auto matrix = [&](const char* name, int64_t out, int64_t in, int model_dim) {
    unit.tensors.push_back({prefix + name + ".weight",
                            {out, in},
                            model_dim,
                            c.linear_stddev,
                            true,
                            model_dim < 0 ? 0 : c.canonical_slices(),
                            true});
  };
  // The order is fixed: core/model/layer_pass.h names the indices.
  norm("input_layernorm", D);
  matrix("self_attn.q_proj", q, D, 0);
  matrix("self_attn.k_proj", kv, D, whole_kv ? -1 : 0);
  matrix("self_attn.v_proj", kv, D, whole_kv ? -1 : 0);
  matrix("self_attn.o_proj", D, q, 1);
  // With post-norms Hugging Face's post_attention_layernorm follows the attention; without, it precedes the
  // MLP.
  if (!c.parallel_layers) norm(c.post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm", D);
  const int first_mlp = static_cast<int>(unit.tensors.size());
  if (c.gated_mlp) matrix("mlp.gate_proj", c.ffn, D, 0);
  matrix("mlp.up_proj", c.ffn, D, 0);
  matrix("mlp.down_proj", D, c.ffn, 1);
  if (c.post_norms) norm("post_attention_layernorm", D);
  if (c.post_norms) norm("post_feedforward_layernorm", D);
  if (c.qk_norm) norm("self_attn.q_norm", c.head_dim);
  if (c.qk_norm) norm("self_attn.k_norm", c.head_dim);
  unit.packs = {{{1, 2, 3}}, {{4}}};
  if (c.gated_mlp) {
    unit.packs.insert(unit.packs.end(), {PackSpec{{first_mlp, first_mlp + 1}}, PackSpec{{first_mlp + 2}}});
  } else {
    unit.packs.insert(unit.packs.end(), {PackSpec{{first_mlp}}, PackSpec{{first_mlp + 1}}});
  }
  if (apart) {
    unit.packs[0] = PackSpec{{1}};
    unit.packs.push_back(PackSpec{{2, 3}});
  }
  return unit;
}

}  // namespace

std::vector<UnitSpec> decoder_units(const DecoderConfig& c, int model_ranks, bool deterministic) {
  const bool whole_kv = keeps_kv_whole(c, model_ranks, deterministic);
  const int64_t pieces = c.canonical_slices();
  const double stddev =
      c.embedding_stddev > 0 ? c.embedding_stddev : 1 / std::sqrt(static_cast<double>(c.d_model));
  std::vector<UnitSpec> units;
  units.push_back({"embedding", {{kEmbedding, {c.vocab, c.d_model}, 0, stddev, true, pieces}}, {}, true});
  if (c.tied_head) units[0].packs = {{{0}}};
  for (int64_t layer = 0; layer < c.layers; ++layer)
    units.push_back(layer_unit(c, layer, whole_kv, whole_kv && model_ranks > 1));
  units.push_back({"head", {{"model.norm.weight", {c.d_model}, -1, 0, false, 0}}, {}, false});
  if (!c.tied_head) {
    units.back().tensors.push_back(
        {"lm_head.weight", {c.vocab, c.d_model}, 0, c.linear_stddev, true, pieces});
    units.back().packs = {{{1}}};
  }
  return units;
}

ParameterCount count_parameters(const DecoderConfig& config) {
  ParameterCount count;
  for (const UnitSpec& unit : decoder_units(config)) {
    for (const TensorSpec& tensor : unit.tensors) {
      (tensor.name == kEmbedding ? count.embedding : count.other) += tensor.shape.elements();
    }
  }
  return count;
}

}  // namespace toroid
