#include "train/huggingface/model_config.h"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/model/model.pb.h"
#include "tests/train/huggingface/golden_models.h"
#include "train/huggingface/half.h"

namespace toroid::huggingface {
namespace {

using config::ModelConfig;

constexpr const char* kShape =
    R"("hidden_size":32,"num_hidden_layers":7,"num_attention_heads":4,"num_key_value_heads":1,"head_dim":16,)"
    R"("intermediate_size":48,"vocab_size":97)";

ModelConfig parse(const std::string& rest) {
  return parse_model_config(std::string("{") + kShape + "," + rest + "}", "c.json");
}

bool same(const ModelConfig& a, const ModelConfig& b) {
  return google::protobuf::util::MessageDifferencer::Equals(a, b);
}

TEST(HuggingFaceConfig, ReadsBothStylesOfRope) {
  const ModelConfig old_style = parse(
      R"("model_type":"gemma3_text","rope_theta":1000000.0,"rope_local_base_freq":10000.0,)"
      R"("rope_scaling":{"factor":8.0,"rope_type":"linear"},"sliding_window_pattern":6,"sliding_window":512)");
  const ModelConfig new_style = parse(
      R"("model_type":"gemma3_text","sliding_window":512,"rope_parameters":{"full_attention":)"
      R"({"rope_theta":1000000.0,"rope_type":"linear","factor":8.0},"sliding_attention":{"rope_theta":10000.0,"rope_type":"default"}},)"
      R"("layer_types":["sliding_attention","sliding_attention","sliding_attention","sliding_attention","sliding_attention",)"
      R"("full_attention","sliding_attention"])");
  EXPECT_TRUE(same(old_style, new_style)) << old_style.DebugString() << new_style.DebugString();
  EXPECT_EQ(old_style.rope().base(), 1e6);
  EXPECT_EQ(old_style.rope().local_base(), 1e4);
  EXPECT_EQ(old_style.rope().scale(), 8);
  EXPECT_EQ(old_style.layer_pattern_size(), 6);
  EXPECT_EQ(old_style.layer_pattern(5), ModelConfig::GLOBAL);
  EXPECT_TRUE(old_style.qk_norm());
  EXPECT_EQ(parse(R"("model_type":"gemma","rope_theta":500.0)").rope().base(), 500);
  EXPECT_EQ(parse(R"("model_type":"gemma","rope_parameters":{"rope_theta":500.0,"rope_type":"default"})")
                .rope()
                .base(),
            500);
}

TEST(HuggingFaceConfig, TakesTheGeluThatGemmaWasTrainedWith) {
  for (const char* keys : {R"("hidden_act":"gelu")", R"("hidden_act":"gelu_pytorch_tanh")",
                           R"("hidden_activation":null)", R"("hidden_act":"gelu","hidden_activation":null)",
                           R"("hidden_act":"gelu","hidden_activation":"gelu_pytorch_tanh")"}) {
    EXPECT_EQ(parse(std::string(R"("model_type":"gemma",)") + keys).activation(), ModelConfig::GELU_TANH)
        << keys;
  }
  EXPECT_EQ(parse(R"("model_type":"gemma","hidden_act":"silu")").activation(), ModelConfig::SILU);
  EXPECT_EQ(parse(R"("model_type":"gemma2","hidden_activation":"gelu")").activation(), ModelConfig::GELU);
  // Both keys: erf is meant.
  EXPECT_EQ(parse(R"("model_type":"gemma","hidden_act":"gelu","hidden_activation":"gelu")").activation(),
            ModelConfig::GELU);
  EXPECT_THROW(parse(R"("model_type":"gemma","hidden_act":"silu","hidden_activation":"relu")"), UserError);
}

TEST(HuggingFaceConfig, SoftCapsMayBeMissingOrNull) {
  EXPECT_EQ(parse(R"("model_type":"gemma2")").attention_softcap(), 50);
  EXPECT_EQ(parse(R"("model_type":"gemma2")").logit_softcap(), 30);
  EXPECT_EQ(parse(R"("model_type":"gemma2","attn_logit_softcapping":null)").attention_softcap(), 0);
  EXPECT_EQ(parse(R"("model_type":"gemma3_text")").attention_softcap(), 0);
  EXPECT_EQ(parse(R"("model_type":"gemma2")").query_pre_attn_scalar(), 256);
}

std::string refusal(const std::string& rest) {
  try {
    parse(rest);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

void expect_refused(const std::string& rest, const std::string& word) {
  const std::string why = refusal(rest);
  EXPECT_NE(why.find(word), std::string::npos) << rest << ": " << why;
}

// What GemmaConfig(), Gemma2Config() and Gemma3TextConfig() of transformers 5.24 are.
TEST(HuggingFaceConfig, AMissingKeyIsWhatTheClassFillsIn) {
  const auto whole = [](const char* type, int64_t* tokens) {
    return parse_model_config(std::string(R"({"model_type":")") + type + "\"}", "c.json", tokens);
  };
  const auto numbers = [](const ModelConfig& m) {
    return std::vector<int64_t>{m.d_model(),  m.layers(), m.heads(), m.kv_heads(),
                                m.head_dim(), m.ffn(),    m.vocab()};
  };
  int64_t tokens = 0;
  ModelConfig model = whole("gemma", &tokens);
  EXPECT_EQ(numbers(model), (std::vector<int64_t>{3072, 28, 16, 16, 256, 24576, 256000}));
  EXPECT_EQ(tokens, 8192);
  EXPECT_EQ(model.rope().base(), 1e4);
  EXPECT_FALSE(model.has_query_pre_attn_scalar());  // head_dim
  model = whole("gemma2", &tokens);
  EXPECT_EQ(numbers(model), (std::vector<int64_t>{2304, 26, 8, 4, 256, 9216, 256000}));
  EXPECT_EQ(tokens, 8192);
  EXPECT_EQ(model.layer_pattern_size(), 2);
  EXPECT_EQ(model.layer_pattern(0), ModelConfig::LOCAL);
  EXPECT_EQ(model.window(), 4096);
  EXPECT_EQ(model.attention_softcap(), 50);
  EXPECT_EQ(model.logit_softcap(), 30);
  EXPECT_EQ(model.query_pre_attn_scalar(), 256);
  EXPECT_EQ(model.rope().base(), 1e4);
  EXPECT_EQ(model.rope().local_base(), 0);
  model = whole("gemma3_text", &tokens);
  EXPECT_EQ(numbers(model), (std::vector<int64_t>{2304, 26, 8, 4, 256, 9216, 262208}));
  EXPECT_EQ(tokens, 131072);
  EXPECT_EQ(model.layer_pattern_size(), 6);
  EXPECT_EQ(model.window(), 4096);
  EXPECT_EQ(model.attention_softcap(), 0);
  EXPECT_EQ(model.query_pre_attn_scalar(), 256);
  EXPECT_EQ(model.rope().base(), 1e6);
  EXPECT_EQ(model.rope().local_base(), 1e4);
  for (const char* type : {"gemma", "gemma2", "gemma3_text"}) {
    model = whole(type, nullptr);
    EXPECT_EQ(model.norm_eps(), 1e-6);
    EXPECT_TRUE(model.tied_head());
    EXPECT_EQ(model.activation(), ModelConfig::GELU_TANH);
    EXPECT_FALSE(model.has_token_ids());  // the tokenizer may know better
    fill_token_ids(model);
    EXPECT_EQ(model.token_ids().bos(), 2);
    EXPECT_EQ(model.token_ids().eos(0), 1);
    EXPECT_EQ(model.token_ids().pad(), 0);
  }
}

TEST(HuggingFaceConfig, NullIsWhatTransformersMakesOfIt) {
  // For these the class takes none, or its default.
  const ModelConfig model = parse(
      R"("model_type":"gemma3_text","rope_scaling":null,"rope_parameters":null,"layer_types":null,)"
      R"("_sliding_window_pattern":null,"use_bidirectional_attention":null,"attn_logit_softcapping":null,)"
      R"("final_logit_softcapping":null,"hidden_act":null,"attention_dropout":null)");
  EXPECT_TRUE(same(model, parse(R"("model_type":"gemma3_text")"))) << model.DebugString();
  EXPECT_TRUE(same(parse(R"("model_type":"gemma","sliding_window":null,"query_pre_attn_scalar":null)"),
                   parse(R"("model_type":"gemma")")));
  // A theta that is null counts only where no object has one.
  EXPECT_EQ(
      parse(R"("model_type":"gemma","rope_theta":null,"rope_parameters":{"rope_theta":500.0})").rope().base(),
      500);
  expect_refused(R"("model_type":"gemma","rope_theta":null)", "'rope_theta' is null");
  expect_refused(R"("model_type":"gemma","rope_theta":5.0,"rope_parameters":{"rope_theta":null})", "is null");
  for (const char* type : {"gemma2", "gemma3_text"}) {
    const std::string key = std::string(R"("model_type":")") + type + "\",";
    expect_refused(key + R"("sliding_window":null)", "'sliding_window' is null");
    expect_refused(key + R"("query_pre_attn_scalar":null)", "is null");
    expect_refused(key + R"("hidden_activation":null)", "is null");
    expect_refused(key + R"("attention_bias":null)", "is null");
    expect_refused(key + R"("max_position_embeddings":null)", "is null");
  }
  expect_refused(R"("model_type":"gemma3_text","sliding_window_pattern":null)", "is null");
}

TEST(HuggingFaceConfig, EachClassReadsItsOwnKeys) {
  expect_refused(R"("model_type":"gemma2","hidden_act":"relu")", "must agree");
  expect_refused(R"("model_type":"gemma","hidden_activation":"relu")", "must agree");
  EXPECT_EQ(parse(R"("model_type":"gemma2","hidden_activation":"relu","hidden_act":"relu")").activation(),
            ModelConfig::RELU);
  EXPECT_EQ(parse(R"("model_type":"gemma3_text","hidden_activation":"gelu_fast")").activation(),
            ModelConfig::GELU_TANH);
  // Gemma 2 knows one theta.
  EXPECT_FALSE(parse(R"("model_type":"gemma2","rope_local_base_freq":5.0)").rope().has_local_base());
  expect_refused(R"("model_type":"gemma2","sliding_window_pattern":3)", "does not read it");
  expect_refused(R"("model_type":"gemma3_text","_sliding_window_pattern":3)", "does not read it");
  EXPECT_EQ(parse(R"("model_type":"gemma3_text","sliding_window_pattern":3)").layer_pattern_size(), 3);
  expect_refused(R"("model_type":"gemma2","final_logit_softcapping":0)", "divides");
  EXPECT_THROW(parse_model_config(R"({"model_type":"gemma2","hidden_size":34})", "c.json"), UserError);
}

TEST(HuggingFaceConfig, RopeIsWhatTransformersTakes) {
  const auto gemma3 = [](const std::string& rest) { return R"("model_type":"gemma3_text",)" + rest; };
  ModelConfig model = parse(gemma3(R"("rope_scaling":{"rope_type":"linear","factor":8.0})"));
  EXPECT_EQ(model.rope().base(), 1e6);
  EXPECT_EQ(model.rope().scale(), 8);
  model =
      parse(gemma3(R"("rope_theta":7.0,"rope_parameters":{"full_attention":{"type":"linear","factor":8}})"));
  EXPECT_EQ(model.rope().base(), 7);
  EXPECT_EQ(model.rope().local_base(), 1e4);
  EXPECT_EQ(model.rope().scale(), 8);
  model = parse(gemma3(R"("rope_parameters":{"sliding_attention":{"rope_theta":3.0}})"));
  EXPECT_EQ(model.rope().base(), 1e6);
  EXPECT_EQ(model.rope().local_base(), 3);
  model = parse(gemma3(R"("rope_local_base_freq":5.0,"rope_parameters":{"full_attention":null})"));
  EXPECT_EQ(model.rope().local_base(), 5);
  // The flat form has no effect in Gemma 3: it may repeat what is the case and no more.
  model = parse(gemma3(R"("rope_parameters":{"rope_theta":1000000.0,"rope_type":"default"})"));
  EXPECT_EQ(model.rope().base(), 1e6);
  expect_refused(gemma3(R"("rope_parameters":{"rope_type":"linear","factor":8.0,"rope_theta":1e6})"),
                 "rope_parameters.rope_type");
  expect_refused(gemma3(R"("rope_parameters":{"rope_theta":500000.0})"), "transformers takes 1e+06");
  expect_refused(gemma3(R"("rope_parameters":{"full_attention":{"rope_theta":5.0},"rope_theta":6.0})"),
                 "takes 5");
  expect_refused(
      gemma3(R"("rope_parameters":{"rope_theta":1e6},"rope_scaling":{"rope_type":"linear","factor":8.0})"),
      "no full_attention");
  expect_refused(gemma3(R"("rope_parameters":{},"rope_scaling":{})"), "no full_attention");
  // Its class has set rope_type before it looks for the older key.
  expect_refused(gemma3(R"("rope_scaling":{"type":"linear","factor":8.0})"), "linear by 8");
  expect_refused(gemma3(R"("rope_theta":5.0,"rope_parameters":{"full_attention":{"rope_theta":6.0}})"),
                 "takes 6");
  expect_refused(gemma3(R"("rope_parameters":{"sliding_attention":{"rope_type":"linear","factor":2.0}})"),
                 "sliding layers");
  // Elsewhere rope_scaling replaces rope_parameters, theta and all.
  for (const char* type : {"gemma", "gemma2"}) {
    const std::string key = std::string(R"("model_type":")") + type + "\",";
    EXPECT_EQ(parse(key + R"("rope_scaling":{},"rope_parameters":{"rope_theta":3.0})").rope().base(), 3);
    expect_refused(key + R"("rope_scaling":{"type":"default"},"rope_parameters":{"rope_theta":3.0})",
                   "takes 10000");
    expect_refused(key + R"("rope_parameters":{"full_attention":{"rope_theta":3.0}})", "nested");
    expect_refused(key + R"("rope_scaling":{"factor":2.0})", "takes 1");
  }
  model = parse(R"("model_type":"gemma","rope_theta":9,"rope_scaling":{"type":"linear","factor":2})");
  EXPECT_EQ(model.rope().base(), 9);
  EXPECT_EQ(model.rope().scale(), 2);
  // All layers of this one are global, so that one factor for all is one for the global ones.
  const std::string global =
      R"("layer_types":["attention","attention","attention","attention","attention","attention","attention"])";
  EXPECT_EQ(
      parse(R"("model_type":"gemma2","rope_scaling":{"type":"linear","factor":2},)" + global).rope().scale(),
      2);
  expect_refused(R"("model_type":"gemma2","rope_scaling":{"type":"linear","factor":2})", "sliding");
}

TEST(HuggingFaceConfig, ParallelLayersAreRefused) {
  expect_refused(R"("model_type":"gemma","parallel_layers":true)",
                 "no model of transformers has such layers");
  EXPECT_FALSE(parse(R"("model_type":"gemma","parallel_layers":false)").parallel_layers());
}

TEST(HuggingFaceConfig, TokenIdsComeBackAsTheyWere) {
  const auto round_trip = [](const std::string& rest) {
    ModelConfig model = parse(R"("model_type":"gemma")" + rest);
    fill_token_ids(model);
    const auto text = model_config_json(model, 64, ElementType::f32, token_ids(model, nullptr));
    const auto json = nlohmann::json::parse(text);
    return nlohmann::json{json["bos_token_id"], json["eos_token_id"], json["pad_token_id"]}.dump();
  };
  EXPECT_EQ(round_trip(""), "[2,1,0]");
  EXPECT_EQ(round_trip(R"(,"bos_token_id":1,"eos_token_id":2,"pad_token_id":null)"), "[1,2,null]");
  EXPECT_EQ(round_trip(R"(,"eos_token_id":[1,96])"), "[2,[1,96],0]");
  EXPECT_EQ(round_trip(R"(,"bos_token_id":null,"eos_token_id":null,"pad_token_id":-1)"), "[null,null,null]");
  EXPECT_EQ(round_trip(R"(,"eos_token_id":[])"), "[2,null,0]");
  EXPECT_EQ(round_trip(R"(,"eos_token_id":50256,"bos_token_id":50256)"), "[50256,50256,0]");
  expect_refused(R"("model_type":"gemma","pad_token_id":97)", "embedding");
  expect_refused(R"("model_type":"gemma","eos_token_id":1.0)", "integer");
  expect_refused(R"("model_type":"gemma","bos_token_id":[1])", "integer");
}

TEST(HuggingFaceConfig, EveryGoldenCaseSurvivesTheWayOutAndBack) {
  int cases = 0;
  for (const auto& folder : golden_models()) {
    int64_t tokens = 0, tokens_again = 0;
    const ModelConfig model = read_model_config(folder / "config.json", &tokens);
    const TokenIds ids = token_ids(model, nullptr);
    const std::string text = model_config_json(model, tokens, ElementType::f32, ids);
    const ModelConfig again = parse_model_config(text, "exported", &tokens_again);
    EXPECT_TRUE(same(model, again)) << folder << model.DebugString() << again.DebugString();
    EXPECT_EQ(tokens, tokens_again);
    EXPECT_EQ(text, model_config_json(again, tokens, ElementType::f32, ids));
    ++cases;
  }
  EXPECT_GT(cases, 0);
}

TEST(HuggingFaceConfig, EveryActivationSurvivesTheWayOutAndBack) {
  for (const auto& activation : op::activation::kDescriptions) {
    ModelConfig::Activation value{};
    ASSERT_TRUE(ModelConfig::Activation_Parse(std::string(activation.name), &value)) << activation.name;
    for (const std::string type : {"gemma", "gemma2", "gemma3_text"}) {
      ModelConfig model = parse(R"("model_type":")" + type + "\"");
      model.set_activation(value);
      const ModelConfig again =
          parse_model_config(model_config_json(model, 64, ElementType::f32, token_ids(model, nullptr)), "x");
      EXPECT_EQ(again.activation(), value) << type << " " << activation.name;
      for (const std::string_view name : activation.hugging_face) {
        const std::string both =
            R"("hidden_act":")" + std::string(name) + R"(","hidden_activation":")" + std::string(name) + "\"";
        EXPECT_EQ(parse(R"("model_type":")" + type + "\"," + both).activation(), value) << type << name;
      }
    }
  }
}

TEST(HuggingFaceConfig, AnActivationWithoutAHuggingFaceNameIsNotExported) {
  try {
    exported_name({"NEW", {}, nullptr});
    FAIL() << "was given a name";
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "this model cannot be exported: transformers has no name for its activation, NEW");
  }
}

TEST(HuggingFaceConfig, RefusesToExportWhatTransformersLacks) {
  ModelConfig model = parse(R"("model_type":"gemma")");
  model.set_logit_softcap(30);
  EXPECT_THROW(model_config_json(model, 64, ElementType::f32, {}), UserError);
  model = parse(R"("model_type":"gemma")");
  model.set_parallel_layers(true);
  EXPECT_THROW(model_config_json(model, 64, ElementType::f32, {}), UserError);
  // transformers 5 refuses both.
  model = parse(R"("model_type":"gemma2")");
  model.set_query_pre_attn_scalar(20.5);
  EXPECT_THROW(model_config_json(model, 64, ElementType::f32, {}), UserError);
  model = parse(R"("model_type":"gemma2")");
  model.set_d_model(34);
  EXPECT_THROW(model_config_json(model, 64, ElementType::f32, {}), UserError);
  model = parse(R"("model_type":"gemma3_text")");
  model.set_post_norms(false);
  EXPECT_THROW(model_config_json(model, 64, ElementType::f32, {}), UserError);
}

TEST(Half, EveryValueComesBackAndRoundingIsToNearestEven) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    if (!std::isnan(from_f16(half))) {
      EXPECT_EQ(to_f16(from_f16(half)), half);
    }
    if (!std::isnan(from_bf16(half))) {
      EXPECT_EQ(to_bf16(from_bf16(half)), half);
    }
  }
  EXPECT_EQ(to_bf16(1.0F + 0x1p-8F), 0x3f80);  // half-way: to even
  EXPECT_EQ(to_bf16(1.0F + 0x1p-8F + 0x1p-12F), 0x3f81);
  EXPECT_EQ(to_f16(1.0F + 0x1p-11F), 0x3c00);
  EXPECT_EQ(to_f16(1.0F + 3 * 0x1p-11F), 0x3c02);
  EXPECT_EQ(to_f16(65520.0F), 0x7c00);
  EXPECT_EQ(to_f16(65519.0F), 0x7bff);
  EXPECT_EQ(to_f16(0x1p-25F), 0);  // half of the least: to even
  EXPECT_EQ(to_f16(0x1.8p-25F), 1);
  EXPECT_TRUE(std::isnan(from_bf16(to_bf16(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace
}  // namespace toroid::huggingface
