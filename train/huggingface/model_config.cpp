#include "train/huggingface/model_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/base/error.h"
#include "core/base/io/json.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "core/model/check.h"
#include "core/model/decoder_config.h"
#include "core/model/model.pb.h"
#include "train/huggingface/family.h"
#include "train/huggingface/rope_keys.h"

namespace toroid::huggingface {
namespace {

using config::ModelConfig;
using Json = nlohmann::json;

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

// A key that is missing: nothing. transformers fills it in, but fails where it is null.
std::optional<JsonView> given(const JsonView& root, const char* key) {
  if (!root.has(key)) return std::nullopt;
  const JsonView value = root.at(key);
  if (value.is_null()) value.refuse("is null, with which transformers fails; leave the key out");
  return value;
}

int64_t integer(const JsonView& root, const char* key, int64_t missing) {
  const auto value = given(root, key);
  return value ? value->as_integer(1, kMost) : missing;
}

double real(const JsonView& root, const char* key, double missing) {
  const auto value = given(root, key);
  return value ? value->as_number() : missing;
}

bool flag(const JsonView& root, const char* key, bool missing) {
  const auto value = given(root, key);
  return value ? value->as_bool() : missing;
}

// 0: none, which config.json says by null; a missing key is the class's.
double soft_cap(const JsonView& root, const char* key, double missing) {
  if (!root.has(key)) return missing;
  const auto value = root.find(key);
  if (!value) return 0;
  const double cap = value->as_number();
  if (cap <= 0) value->refuse("is " + number(cap) + ", by which transformers divides; none is null");
  return cap;
}

// Keys that change nothing here, but whose null keeps transformers from opening the file.
void check_unread(const JsonView& root, Family family) {
  for (const char* key : {"use_cache", "initializer_range"}) given(root, key);
  if (family == Family::gemma) given(root, "attention_dropout");
}

int64_t token_id(const JsonView& id) {
  return std::max<int64_t>(id.as_integer(-(int64_t{1} << 31), int64_t{1} << 31), -1);
}

// Ids that are there are kept as they stand, and null and negative ones, which older files have, as none. For
// those that are missing the tokenizer may know better than the class.
void read_token_ids(const JsonView& root, ModelConfig& model) {
  ModelConfig::TokenIds ids;
  const auto one = [&root](const char* key) {
    const JsonView value = root.at(key);
    return value.is_null() ? -1 : token_id(value);
  };
  if (root.has("bos_token_id")) ids.set_bos(one("bos_token_id"));
  if (root.has("pad_token_id")) ids.set_pad(one("pad_token_id"));
  if (root.has("eos_token_id")) {
    const JsonView eos = root.at("eos_token_id");
    if (!eos.is_array()) {
      ids.add_eos(one("eos_token_id"));
    } else {
      for (const JsonView& id : eos.elements()) ids.add_eos(token_id(id));
      if (ids.eos_size() == 0) ids.add_eos(-1);
    }
  }
  if (ids.has_bos() || ids.has_pad() || ids.eos_size() > 0) *model.mutable_token_ids() = ids;
  if (ids.pad() >= model.vocab()) {
    root.at("pad_token_id")
        .refuse("is " + std::to_string(ids.pad()) + ", but vocab_size is only " +
                std::to_string(model.vocab()) + ", with which transformers cannot make the embedding");
  }
}

ModelConfig::Activation activation_named(const JsonView& value) {
  const std::string name = value.as_string();
  for (const auto& one : op::activation::kDescriptions) {
    if (std::find(one.hugging_face.begin(), one.hugging_face.end(), name) == one.hugging_face.end()) continue;
    ModelConfig::Activation found{};
    require(ModelConfig::Activation_Parse(std::string(one.name), &found), "the list's names are the proto's");
    return found;
  }
  std::string known;
  for (const auto& one : op::activation::kDescriptions) {
    if (one.hugging_face.empty()) continue;
    known += (known.empty() ? "" : ", ") + std::string(one.hugging_face.front());
  }
  value.refuse("is " + in_quotes(name) + ", but the activations that are implemented are " + known);
}

// Each class reads one of two keys, and published files have both.
void read_activation(const JsonView& root, Family family, ModelConfig& model) {
  const bool first = family == Family::gemma;
  const char* const read = first ? "hidden_act" : "hidden_activation";
  const char* const other = first ? "hidden_activation" : "hidden_act";
  const auto stated = given(root, read), beside = root.find(other);
  // The first Gemma files say "gelu" in one of them, of a model that was trained with the tanh form. It means
  // itself where both say it, as what is exported here does.
  const auto says_gelu = [](const JsonView& value) {
    return value.is_string() && value.as_string() == "gelu";
  };
  const bool itself = !first || (stated && beside && says_gelu(*stated) && says_gelu(*beside));
  const auto of = [&](const JsonView& value) {
    return !itself && says_gelu(value) ? ModelConfig::GELU_TANH : activation_named(value);
  };
  model.set_activation(stated ? of(*stated) : ModelConfig::GELU_TANH);
  if (beside && of(*beside) != model.activation()) {
    beside->refuse(
        "is " + in_quotes(beside->as_string()) + ", but " + read + ", which transformers reads, is " +
        (stated ? in_quotes(stated->as_string()) : "gelu_pytorch_tanh (its default)") + "; they must agree");
  }
}

void read_ropes(const JsonView& root, Family family, ModelConfig& model) {
  const RopeKeys rope = read_rope(root, family);
  model.mutable_rope()->set_base(rope.base);
  model.mutable_rope()->set_scale(rope.scale);
  if (rope.local_base != rope.base) model.mutable_rope()->set_local_base(rope.local_base);
  if (family == Family::gemma2 && rope.scale != 1 && model.layer_pattern_size() > 0) {
    root.refuse(
        "scales RoPE's positions in all layers of a model with sliding ones, which is not implemented");
  }
}

std::vector<ModelConfig::LayerKind> listed_layers(const JsonView& types, int64_t layers) {
  std::vector<ModelConfig::LayerKind> kinds;
  for (const JsonView& type : types.elements()) {
    const std::string name = type.as_string();
    const bool full = name == "full_attention" || name == "attention";  // an older name of it
    if (!full && name != "sliding_attention") {
      type.refuse("is " + in_quotes(name) +
                  ", but only full_attention and sliding_attention are implemented");
    }
    kinds.push_back(full ? ModelConfig::GLOBAL : ModelConfig::LOCAL);
  }
  if (static_cast<int64_t>(kinds.size()) != layers) {
    types.refuse("has " + std::to_string(kinds.size()) + " entries, but num_hidden_layers is " +
                 std::to_string(layers));
  }
  return kinds;
}

// Every so many layers one is global. Only Gemma 3 has a key for it; other spellings have no effect, so they
// must say what is the case.
int64_t layer_period(const JsonView& root, Family family) {
  const int64_t missing = defaults_of(family).sliding_window_pattern;
  const bool read = family == Family::gemma3;
  const int64_t period = read && given(root, "sliding_window_pattern")
                             ? root.at("sliding_window_pattern").as_integer(1, 1000)
                             : missing;
  for (const char* key : {"sliding_window_pattern", "_sliding_window_pattern"}) {
    const auto beside = root.find(key);
    if (beside && beside->as_integer(1, 1000) != period) {
      beside->refuse("is " + std::to_string(beside->as_integer()) +
                     ", but transformers does not read it here and takes " + std::to_string(period) +
                     "; list the layers in layer_types");
    }
  }
  return period;
}

void read_layers(const JsonView& root, Family family, ModelConfig& model) {
  std::vector<ModelConfig::LayerKind> kinds;
  const auto types = root.find("layer_types");
  if (types) kinds = listed_layers(*types, model.layers());
  if (family == Family::gemma) {
    if (std::find(kinds.begin(), kinds.end(), ModelConfig::LOCAL) != kinds.end())
      types->refuse("has sliding_attention, but all layers of model_type gemma are full_attention");
    return;
  }
  if (!types) {
    const int64_t period = layer_period(root, family);
    for (int64_t i = 1; i <= model.layers(); ++i) {
      kinds.push_back(i % period == 0 ? ModelConfig::GLOBAL : ModelConfig::LOCAL);
    }
  }
  // transformers asks for a window even where no layer slides.
  const int64_t window = integer(root, "sliding_window", kDefaultWindow);
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
  model.set_window(window);
}

}  // namespace

std::string exported_name(const op::activation::Description& activation) {
  if (activation.hugging_face.empty()) {
    throw UserError("this model cannot be exported: transformers has no name for its activation, " +
                    std::string(activation.name));
  }
  return std::string(activation.hugging_face.front());
}

ModelConfig parse_model_config(const std::string& json, const std::string& origin, int64_t* max_tokens) {
  const JsonDocument document = JsonDocument::parse(json, origin, {.bytes = int64_t{1} << 20, .depth = 16});
  const JsonView root = document.root();
  const Family family = family_of(root);
  ModelConfig model;
  const ClassDefaults& missing = defaults_of(family);
  model.set_d_model(integer(root, "hidden_size", missing.hidden_size));
  model.set_layers(integer(root, "num_hidden_layers", missing.num_hidden_layers));
  model.set_heads(integer(root, "num_attention_heads", missing.num_attention_heads));
  model.set_kv_heads(integer(root, "num_key_value_heads", missing.num_key_value_heads));
  model.set_head_dim(integer(root, "head_dim", missing.head_dim));
  model.set_ffn(integer(root, "intermediate_size", missing.intermediate_size));
  model.set_vocab(integer(root, "vocab_size", missing.vocab_size));
  model.set_norm_eps(real(root, "rms_norm_eps", kDefaultNormEps));
  model.set_tied_head(flag(root, "tie_word_embeddings", true));
  if (flag(root, "attention_bias", false))
    root.at("attention_bias").refuse("is true, which is not implemented");
  if (const auto both = root.find("use_bidirectional_attention"); both && both->as_bool())
    both->refuse("is true, which is not implemented");
  check_unread(root, family);
  if (flag(root, "parallel_layers", false)) {
    root.at("parallel_layers")
        .refuse(
            "is true, but no model of transformers has such layers, nor names for their weights; train one "
            "here instead (model.parallel_layers)");
  }
  if (const auto mlp = root.find("mlp")) {
    const std::string kind = mlp->as_string();
    if (kind != "plain" && kind != "gated")
      mlp->refuse("is " + in_quotes(kind) + ", but must be gated or plain");
    model.set_mlp(kind == "plain" ? ModelConfig::PLAIN : ModelConfig::GATED);
  }
  read_activation(root, family, model);
  read_layers(root, family, model);
  read_ropes(root, family, model);
  read_token_ids(root, model);
  model.set_post_norms(family != Family::gemma);
  model.set_qk_norm(family == Family::gemma3);
  if (family != Family::gemma) {
    model.set_query_pre_attn_scalar(real(root, "query_pre_attn_scalar", kDefaultQueryScalar));
    model.set_attention_softcap(soft_cap(root, "attn_logit_softcapping", missing.attention_softcap));
    model.set_logit_softcap(soft_cap(root, "final_logit_softcapping", missing.logit_softcap));
    if (model.d_model() % model.heads() != 0) {
      root.refuse("has a hidden_size (" + std::to_string(model.d_model()) +
                  ") that is not a multiple of num_attention_heads (" + std::to_string(model.heads()) +
                  "), which transformers refuses");
    }
  }
  const int64_t tokens = integer(root, "max_position_embeddings", missing.max_position_embeddings);
  if (max_tokens != nullptr) *max_tokens = tokens;
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

std::string model_config_json(const ModelConfig& model, int64_t max_tokens, ElementType weights,
                              const TokenIds& ids) {
  const auto refuse = [](const std::string& what) {
    throw UserError("this model cannot be exported: no Gemma of transformers has " + what);
  };
  if (model.parallel_layers()) refuse("parallel layers (model.parallel_layers)");
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
    if (scalar != head_dim) refuse("query_pre_attn_scalar (" + number(scalar) + ") without post-norms");
  }
  if (family != Family::gemma) {
    if (model.d_model() % model.heads() != 0) {
      refuse("a width (model.d_model, " + std::to_string(model.d_model()) +
             ") that is no multiple of its heads (" + std::to_string(model.heads()) + "), beside post-norms");
    }
    if (scalar != std::floor(scalar))
      refuse("a query_pre_attn_scalar (" + number(scalar) + ") that is not whole");
  }
  if (family == Family::gemma2 && slides && local != base) refuse("two RoPE bases without QK norms");
  if (family == Family::gemma2 && slides && scale != 1)
    refuse("RoPE scaling of its global layers only, without QK norms");

  const char* type = weights == ElementType::bf16  ? "bfloat16"
                     : weights == ElementType::f16 ? "float16"
                                                   : "float32";
  const std::string act = exported_name(op::description_of(activation_of_config(model.activation())));
  const Json global = scale == 1 ? Json{{"rope_theta", base}, {"rope_type", "default"}}
                                 : Json{{"rope_theta", base}, {"rope_type", "linear"}, {"factor", scale}};
  const Json eos = ids.eos.empty() ? Json() : ids.eos.size() == 1 ? Json(ids.eos.front()) : Json(ids.eos);
  Json json = {{"attention_bias", false},
               {"attention_dropout", 0.0},
               {"bos_token_id", ids.bos ? Json(*ids.bos) : Json()},
               {"dtype", type},
               {"eos_token_id", eos},
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
               {"pad_token_id", ids.pad ? Json(*ids.pad) : Json()},
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
  json["query_pre_attn_scalar"] = static_cast<int64_t>(scalar);
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
