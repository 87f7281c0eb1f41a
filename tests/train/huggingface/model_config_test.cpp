#include "train/huggingface/model_config.h"

#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>

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
  EXPECT_THROW(parse(R"("model_type":"gemma2","hidden_activation":"gelu")"), UserError);
  EXPECT_THROW(parse(R"("model_type":"gemma","hidden_act":"silu","hidden_activation":"relu")"), UserError);
}

TEST(HuggingFaceConfig, SoftCapsMayBeMissingOrNull) {
  EXPECT_EQ(parse(R"("model_type":"gemma2")").attention_softcap(), 50);
  EXPECT_EQ(parse(R"("model_type":"gemma2")").logit_softcap(), 30);
  EXPECT_EQ(parse(R"("model_type":"gemma2","attn_logit_softcapping":null)").attention_softcap(), 0);
  EXPECT_EQ(parse(R"("model_type":"gemma3_text")").attention_softcap(), 0);
  EXPECT_EQ(parse(R"("model_type":"gemma2")").query_pre_attn_scalar(), 256);
}

TEST(HuggingFaceConfig, EveryGoldenCaseSurvivesTheWayOutAndBack) {
  int cases = 0;
  for (const auto& folder : golden_models()) {
    int64_t tokens = 0, tokens_again = 0;
    const ModelConfig model = read_model_config(folder / "config.json", &tokens);
    const std::string text = model_config_json(model, tokens, ElementType::f32);
    const ModelConfig again = parse_model_config(text, "exported", &tokens_again);
    EXPECT_TRUE(same(model, again)) << folder << model.DebugString() << again.DebugString();
    EXPECT_EQ(tokens, tokens_again);
    EXPECT_EQ(text, model_config_json(again, tokens, ElementType::f32));
    ++cases;
  }
  EXPECT_GT(cases, 0);
}

TEST(HuggingFaceConfig, RefusesToExportWhatTransformersLacks) {
  ModelConfig model = parse(R"("model_type":"gemma")");
  model.set_logit_softcap(30);
  EXPECT_THROW(model_config_json(model, 64, ElementType::f32), UserError);
  model = parse(R"("model_type":"gemma3_text")");
  model.set_post_norms(false);
  EXPECT_THROW(model_config_json(model, 64, ElementType::f32), UserError);
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
