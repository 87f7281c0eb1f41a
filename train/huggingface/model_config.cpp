#include "train/huggingface/model_config.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/base/io/json.h"
#include "core/base/text.h"
#include "core/model/check.h"
#include "core/model/model.pb.h"

namespace toroid::huggingface {
namespace {

using config::ModelConfig;
using Json = nlohmann::json;

enum class Family : uint8_t { gemma, gemma2, gemma3 };

constexpr int64_t kMost = int64_t{1} << 40;

Family family_of(const JsonView& root) {
  const std::string type = root.at("model_type").as_string();
  if (type == "gemma") return Family::gemma;
  if (type == "gemma2") return Family::gemma2;
  if (type == "gemma3_text") return Family::gemma3;
  root.at("model_type")
      .refuse("is " + in_quotes(type) + ", but only gemma, gemma2 and gemma3_text are understood" +
              (type == "gemma3" ? " (this is the multimodal model; take its text decoder)" : ""));
}

bool flag(const JsonView& root, const char* key, bool missing) {
  const auto value = root.find(key);
  return value ? value->as_bool() : missing;
}

// A key that may be missing (then the class's own default) or null (then 0: none).
double soft_cap(const JsonView& root, const char* key, double missing) {
  if (!root.has(key)) return missing;
  const auto value = root.find(key);
  return value ? value->as_number() : 0;
}

std::optional<ModelConfig::Activation> activation(const std::string& name, Family family) {
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return ModelConfig::GELU_TANH;
  // The first Gemma files say "gelu" (which means erf elsewhere) of a model that was trained with tanh.
  if (name == "gelu" && family == Family::gemma) return ModelConfig::GELU_TANH;
  if (name == "silu" || name == "swish") return ModelConfig::SILU;
  if (name == "relu") return ModelConfig::RELU;
  return std::nullopt;
}

void read_activation(const JsonView& root, Family family, ModelConfig& model) {
  std::optional<ModelConfig::Activation> found;
  for (const char* key : {"hidden_activation", "hidden_act"}) {
    const auto value = root.find(key);
    if (!value) continue;
    const auto one = activation(value->as_string(), family);
    if (!one) {
      value->refuse("is " + in_quotes(value->as_string()) +
                    ", but only gelu_pytorch_tanh, silu and relu are implemented");
    }
    if (found && *found != *one) {
      value->refuse("is " + in_quotes(value->as_string()) + ", but hidden_activation is " +
                    in_quotes(root.at("hidden_activation").as_string()) + "; they must agree");
    }
    found = one;
  }
  model.set_activation(found.value_or(ModelConfig::GELU_TANH));
}

// theta and linear factor of one rope_parameters (or rope_scaling) object.
struct Rope {
  std::optional<double> theta;
  double factor = 1;
};

Rope read_rope(const JsonView& value) {
  Rope rope;
  if (const auto theta = value.find("rope_theta")) rope.theta = theta->as_number();
  if (const auto partial = value.find("partial_rotary_factor"); partial && partial->as_number() != 1) {
    partial->refuse("is not 1, but RoPE turns whole heads here");
  }
  auto type = value.find("rope_type");
  if (!type) type = value.find("type");
  const std::string name = type ? type->as_string() : "default";
  if (name == "linear") {
    rope.factor = value.at("factor").as_number();
  } else if (name != "default") {
    type->refuse("is " + in_quotes(name) + ", but only default and linear are implemented");
  }
  return rope;
}

void set_once(std::optional<double>& target, double value, const JsonView& place) {
  if (target && *target != value) {
    place.refuse("says " + std::to_string(value) + ", but another key of this file says " +
                 std::to_string(*target));
  }
  target = value;
}

void read_ropes(const JsonView& root, Family family, ModelConfig& model) {
  std::optional<double> base, local, scale;
  if (const auto theta = root.find("rope_theta")) set_once(base, theta->as_number(), *theta);
  if (const auto theta = root.find("rope_local_base_freq")) set_once(local, theta->as_number(), *theta);
  const auto global = [&](const JsonView& place) {
    const Rope rope = read_rope(place);
    if (rope.theta) set_once(base, *rope.theta, place);
    set_once(scale, rope.factor, place);
  };
  if (const auto scaling = root.find("rope_scaling")) global(*scaling);
  if (const auto parameters = root.find("rope_parameters")) {
    if (parameters->has("full_attention") || parameters->has("sliding_attention")) {
      if (const auto full = parameters->find("full_attention")) global(*full);
      if (const auto sliding = parameters->find("sliding_attention")) {
        const Rope rope = read_rope(*sliding);
        if (rope.theta) set_once(local, *rope.theta, *sliding);
        if (rope.factor != 1)
          sliding->refuse("scales the positions of sliding layers, which is not implemented");
      }
    } else {
      global(*parameters);
    }
  }
  const bool two_bases = family == Family::gemma3;
  const double theta = base.value_or(two_bases ? 1e6 : 1e4);
  const double local_theta = local.value_or(two_bases ? 1e4 : theta);
  model.mutable_rope()->set_base(theta);
  model.mutable_rope()->set_scale(scale.value_or(1));
  if (local_theta != theta) model.mutable_rope()->set_local_base(local_theta);
  if (family == Family::gemma2 && scale.value_or(1) != 1) {
    root.refuse(
        "scales RoPE's positions in all layers of a model with sliding ones, which is not implemented");
  }
}

void read_layers(const JsonView& root, Family family, ModelConfig& model) {
  if (family == Family::gemma) {
    if (const auto types = root.find("layer_types")) {
      for (const JsonView& type : types->elements()) {
        if (type.as_string() != "full_attention")
          type.refuse("is not full_attention, but model_type is gemma");
      }
    }
    return;
  }
  std::vector<ModelConfig::LayerKind> kinds;
  if (const auto types = root.find("layer_types")) {
    for (const JsonView& type : types->elements()) {
      const std::string name = type.as_string();
      if (name != "full_attention" && name != "sliding_attention") {
        type.refuse("is " + in_quotes(name) +
                    ", but only full_attention and sliding_attention are implemented");
      }
      kinds.push_back(name == "full_attention" ? ModelConfig::GLOBAL : ModelConfig::LOCAL);
    }
    if (static_cast<int64_t>(kinds.size()) != model.layers()) {
      types->refuse("has " + std::to_string(kinds.size()) + " entries, but num_hidden_layers is " +
                    std::to_string(model.layers()));
    }
  } else {
    auto pattern = root.find("sliding_window_pattern");
    if (!pattern) pattern = root.find("_sliding_window_pattern");
    const int64_t period = pattern ? pattern->as_integer(1, 1000) : family == Family::gemma2 ? 2 : 6;
    for (int64_t i = 1; i <= model.layers(); ++i) {
      kinds.push_back(i % period == 0 ? ModelConfig::GLOBAL : ModelConfig::LOCAL);
    }
  }
  if (std::find(kinds.begin(), kinds.end(), ModelConfig::LOCAL) == kinds.end()) return;
  // The shortest run of layers that, repeated, gives them all.
  size_t period = 1;
  const auto repeats = [&] {
    for (size_t i = period; i < kinds.size(); ++i) {
      if (kinds[i] != kinds[i - period]) return false;
    }
    return true;
  };
  while (!repeats()) ++period;
  for (size_t i = 0; i < period; ++i) model.add_layer_pattern(kinds[i]);
  const auto window = root.find("sliding_window");
  model.set_window(window ? window->as_integer(1, kMost) : 4096);
}

}  // namespace

ModelConfig parse_model_config(const std::string& json, const std::string& origin, int64_t* max_tokens) {
  const JsonDocument document = JsonDocument::parse(json, origin, {.bytes = int64_t{1} << 20, .depth = 16});
  const JsonView root = document.root();
  const Family family = family_of(root);
  ModelConfig model;
  const auto integer = [&root](const char* key) { return root.at(key).as_integer(1, kMost); };
  model.set_d_model(integer("hidden_size"));
  model.set_layers(integer("num_hidden_layers"));
  model.set_heads(integer("num_attention_heads"));
  model.set_kv_heads(integer("num_key_value_heads"));
  model.set_head_dim(integer("head_dim"));
  model.set_ffn(integer("intermediate_size"));
  model.set_vocab(integer("vocab_size"));
  const auto eps = root.find("rms_norm_eps");
  model.set_norm_eps(eps ? eps->as_number() : 1e-6);
  model.set_tied_head(flag(root, "tie_word_embeddings", true));
  for (const char* key : {"attention_bias", "use_bidirectional_attention"}) {
    if (flag(root, key, false)) root.at(key).refuse("is true, which is not implemented");
  }
  if (const auto mlp = root.find("mlp")) {
    const std::string kind = mlp->as_string();
    if (kind != "plain" && kind != "gated")
      mlp->refuse("is " + in_quotes(kind) + ", but must be gated or plain");
    model.set_mlp(kind == "plain" ? ModelConfig::PLAIN : ModelConfig::GATED);
  }
  read_activation(root, family, model);
  read_ropes(root, family, model);
  read_layers(root, family, model);
  model.set_post_norms(family != Family::gemma);
  model.set_qk_norm(family == Family::gemma3);
  if (family != Family::gemma) {
    const auto scalar = root.find("query_pre_attn_scalar");
    model.set_query_pre_attn_scalar(scalar ? scalar->as_number() : 256);
    model.set_attention_softcap(soft_cap(root, "attn_logit_softcapping", family == Family::gemma2 ? 50 : 0));
    model.set_logit_softcap(soft_cap(root, "final_logit_softcapping", family == Family::gemma2 ? 30 : 0));
  }
  if (max_tokens != nullptr) {
    const auto tokens = root.find("max_position_embeddings");
    *max_tokens = tokens ? tokens->as_integer(1, kMost) : 8192;
  }
  try {
    model::check(model);
  } catch (const UserError& error) {
    throw UserError(in_quotes(origin) + ": " + error.what());
  }
  return model;
}

ModelConfig read_model_config(const Path& config_json, int64_t* max_tokens) {
  return parse_model_config(read_file(config_json, int64_t{1} << 20), config_json.string(), max_tokens);
}

std::string model_config_json(const ModelConfig& model, int64_t max_tokens, ElementType weights) {
  const auto refuse = [](const std::string& what) {
    throw UserError("this model cannot be exported: no Gemma of transformers has " + what);
  };
  const Family family = model.qk_norm()      ? Family::gemma3
                        : model.post_norms() ? Family::gemma2
                                             : Family::gemma;
  const double head_dim = static_cast<double>(model.head_dim());
  const double scalar = model.has_query_pre_attn_scalar() ? model.query_pre_attn_scalar() : head_dim;
  const double base = model.rope().base(), scale = model.rope().scale();
  const double local = model.rope().local_base() > 0 ? model.rope().local_base() : base;
  const int64_t kv_heads = model.has_kv_heads() ? model.kv_heads() : model.heads();
  std::vector<bool> sliding(static_cast<size_t>(model.layers()));
  for (int i = 0; model.layer_pattern_size() > 0 && i < model.layers(); ++i) {
    sliding[static_cast<size_t>(i)] =
        model.layer_pattern(i % model.layer_pattern_size()) == ModelConfig::LOCAL;
  }
  const bool slides = std::find(sliding.begin(), sliding.end(), true) != sliding.end();
  if (family == Family::gemma3 && !model.post_norms()) refuse("QK norms without post-norms");
  if (family == Family::gemma) {
    if (slides) refuse("sliding windows without post-norms");
    if (model.attention_softcap() != 0 || model.logit_softcap() != 0) refuse("soft-caps without post-norms");
    if (scalar != head_dim)
      refuse("query_pre_attn_scalar (" + std::to_string(scalar) + ") without post-norms");
  }
  if (family == Family::gemma2 && slides && local != base) refuse("two RoPE bases without QK norms");
  if (family == Family::gemma2 && slides && scale != 1)
    refuse("RoPE scaling of its global layers only, without QK norms");

  const char* type = weights == ElementType::bf16  ? "bfloat16"
                     : weights == ElementType::f16 ? "float16"
                                                   : "float32";
  const std::string act = model.activation() == ModelConfig::SILU   ? "silu"
                          : model.activation() == ModelConfig::RELU ? "relu"
                                                                    : "gelu_pytorch_tanh";
  const Json global = scale == 1 ? Json{{"rope_theta", base}, {"rope_type", "default"}}
                                 : Json{{"rope_theta", base}, {"rope_type", "linear"}, {"factor", scale}};
  Json json = {{"attention_bias", false},
               {"attention_dropout", 0.0},
               {"bos_token_id", 2},
               {"dtype", type},
               {"eos_token_id", 1},
               {"head_dim", model.head_dim()},
               {"hidden_act", act},         // read by some versions of transformers,
               {"hidden_activation", act},  // and this by others
               {"hidden_size", model.d_model()},
               {"initializer_range", 0.02},
               {"intermediate_size", model.ffn()},
               {"max_position_embeddings", max_tokens},
               {"num_attention_heads", model.heads()},
               {"num_hidden_layers", model.layers()},
               {"num_key_value_heads", kv_heads},
               {"pad_token_id", 0},
               {"rms_norm_eps", model.norm_eps()},
               {"rope_parameters", global},  // transformers 5
               {"rope_theta", base},         // transformers 4
               {"tie_word_embeddings", model.tied_head()},
               {"torch_dtype", type},
               {"use_cache", true},
               {"vocab_size", model.vocab()}};
  json["rope_scaling"] = scale == 1 ? Json() : Json{{"rope_type", "linear"}, {"factor", scale}};
  if (model.mlp() == ModelConfig::PLAIN) json["mlp"] = "plain";
  if (family == Family::gemma) {
    json["architectures"] = {"GemmaForCausalLM"};
    json["model_type"] = "gemma";
    return json.dump(2) + "\n";
  }
  Json types = Json::array();
  for (const bool slide : sliding) types.push_back(slide ? "sliding_attention" : "full_attention");
  json["layer_types"] = types;
  json["sliding_window"] = slides ? model.window() : 4096;
  json["query_pre_attn_scalar"] = scalar;
  if (scalar == static_cast<double>(static_cast<int64_t>(scalar))) {
    json["query_pre_attn_scalar"] = static_cast<int64_t>(scalar);
  }
  json["attn_logit_softcapping"] = model.attention_softcap() == 0 ? Json() : Json(model.attention_softcap());
  json["final_logit_softcapping"] = model.logit_softcap() == 0 ? Json() : Json(model.logit_softcap());
  json["use_bidirectional_attention"] = false;
  if (family == Family::gemma2) {
    json["architectures"] = {"Gemma2ForCausalLM"};
    json["model_type"] = "gemma2";
    return json.dump(2) + "\n";
  }
  json["architectures"] = {"Gemma3ForCausalLM"};
  json["model_type"] = "gemma3_text";
  json["rope_local_base_freq"] = local;
  json["rope_parameters"] = {{"full_attention", global},
                             {"sliding_attention", {{"rope_theta", local}, {"rope_type", "default"}}}};
  return json.dump(2) + "\n";
}

}  // namespace toroid::huggingface
