// What a decoder consists of, and what one rank of a model axis holds of it.
#include <gtest/gtest.h>

#include <set>

#include "core/base/error.h"
#include "core/model/model.pb.h"
#include "core/model/share.h"
#include "core/model/split.h"
#include "tests/core/model/tiny_decoder.h"

namespace toroid::testing {
namespace {

std::vector<std::string> names(const UnitSpec& unit) {
  std::vector<std::string> out;
  for (const TensorSpec& tensor : unit.tensors) out.push_back(tensor.name);
  return out;
}

TEST(DecoderConfig, every_activation_of_the_config_is_computed) {
  using config::ModelConfig;
  for (int value = 0; value < ModelConfig::Activation_ARRAYSIZE; ++value) {
    const auto one = static_cast<ModelConfig::Activation>(value);
    EXPECT_EQ(op::description_of(activation_of_config(one)).name, ModelConfig::Activation_Name(one));
  }
  try {
    activation_of_config(1000);
    FAIL() << "a number without a name is computed";
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("number 1000"), std::string::npos) << error.what();
  }
}

TEST(DecoderUnits, are_embedding_layers_and_head) {
  const std::vector<UnitSpec> units = decoder_units(tiny_config());
  ASSERT_EQ(units.size(), 4u);
  EXPECT_EQ(names(units[0]), std::vector<std::string>{"model.embed_tokens.weight"});
  EXPECT_TRUE(units[0].read_by_rows);
  EXPECT_EQ(units[0].packs.size(), 1u) << "a tied table serves the head's products too";
  EXPECT_EQ(names(units[2]),
            (std::vector<std::string>{
                "model.layers.1.input_layernorm.weight", "model.layers.1.self_attn.q_proj.weight",
                "model.layers.1.self_attn.k_proj.weight", "model.layers.1.self_attn.v_proj.weight",
                "model.layers.1.self_attn.o_proj.weight", "model.layers.1.post_attention_layernorm.weight",
                "model.layers.1.mlp.gate_proj.weight", "model.layers.1.mlp.up_proj.weight",
                "model.layers.1.mlp.down_proj.weight"}));
  EXPECT_EQ(names(units[3]), std::vector<std::string>{"model.norm.weight"});
}

TEST(DecoderUnits, follow_the_family) {
  DecoderConfig config = tiny_config();
  config.tied_head = false;
  config.gated_mlp = false;
  config.post_norms = config.qk_norm = true;
  const std::vector<UnitSpec> units = decoder_units(config);
  EXPECT_TRUE(units[0].packs.empty());
  EXPECT_EQ(names(units[3]), (std::vector<std::string>{"model.norm.weight", "lm_head.weight"}));
  const std::vector<std::string> layer = names(units[1]);
  EXPECT_EQ(layer.size(), 12u);
  EXPECT_EQ(layer[5], "model.layers.0.pre_feedforward_layernorm.weight");
  EXPECT_EQ(layer.back(), "model.layers.0.self_attn.k_norm.weight");
  EXPECT_EQ(units[1].tensors.back().shape, (Shape{config.head_dim}));
}

TEST(DecoderUnits, parallel_layers_have_one_norm) {
  DecoderConfig config = tiny_config();
  const int64_t of_two_norms = count_parameters(config).other;
  config.parallel_layers = true;
  EXPECT_EQ(count_parameters(config).other, of_two_norms - config.layers * config.d_model);
  const std::vector<UnitSpec> units = decoder_units(config, 4);
  const std::vector<std::string> layer = names(units[1]);
  ASSERT_EQ(layer.size(), 8u);
  EXPECT_EQ(layer[0], "model.layers.0.input_layernorm.weight");
  EXPECT_EQ(layer[5], "model.layers.0.mlp.gate_proj.weight") << "right after the output projection";
  EXPECT_EQ(units[1].packs[2].tensors, (std::vector<int>{5, 6}));
  EXPECT_EQ(units[1].packs[3].tensors, (std::vector<int>{7}));
  EXPECT_EQ(units[1].packs.back().tensors, (std::vector<int>{2, 3}));
  config.gated_mlp = false;
  EXPECT_EQ(decoder_units(config)[1].packs[3].tensors, (std::vector<int>{6}));
}

TEST(DecoderUnits, decay_matrices_alone_and_count_every_parameter) {
  const DecoderConfig config = tiny_config();
  const int64_t D = config.d_model, q = config.heads * config.head_dim,
                kv = config.kv_heads * config.head_dim;
  for (const UnitSpec& unit : decoder_units(config)) {
    for (const TensorSpec& tensor : unit.tensors) {
      EXPECT_EQ(tensor.decay, tensor.shape.rank() == 2) << tensor.name;
      EXPECT_EQ(tensor.init_stddev > 0, tensor.shape.rank() == 2) << tensor.name;
    }
  }
  const ParameterCount count = count_parameters(config);
  EXPECT_EQ(count.embedding, config.vocab * D);
  EXPECT_EQ(count.other, 2 * (2 * D + 2 * q * D + 2 * kv * D + 3 * config.ffn * D) + D);
}

// Two key/value heads are split over two ranks; over four each rank computes both on its own tokens.
TEST(DecoderUnits, keep_keys_and_values_whole_where_there_are_too_few) {
  const std::vector<UnitSpec> split = decoder_units(tiny_config(), 2),
                              whole = decoder_units(tiny_config(), 4);
  EXPECT_EQ(split[1].tensors[2].model_dim, 0);
  EXPECT_EQ(whole[1].tensors[2].model_dim, -1);
  EXPECT_EQ(whole[1].tensors[1].model_dim, 0) << "queries are split";
  EXPECT_EQ(whole[1].tensors[4].model_dim, 1) << "the output projection by its input";
  ASSERT_EQ(whole[1].packs.size(), split[1].packs.size() + 1);
  EXPECT_EQ(split[1].packs[0].tensors, (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(whole[1].packs[0].tensors, (std::vector<int>{1}));
  EXPECT_EQ(whole[1].packs.back().tensors, (std::vector<int>{2, 3}));
}

// Every query head is computed once, by the key/value head that serves it; every token of the vocabulary lies
// on one rank.
TEST(ModelShare, deals_heads_and_vocabulary_once) {
  const DecoderConfig config = tiny_config();
  for (const bool deterministic : {false, true}) {
    for (const int ranks : {1, 2, 4}) {
      SCOPED_TRACE(std::to_string(ranks) + " ranks" + (deterministic ? ", deterministic" : ""));
      std::multiset<int64_t> query_heads, tokens;
      int64_t ffn = 0, slices = 0;
      for (int rank = 0; rank < ranks; ++rank) {
        const ModelShare share(config, {rank, ranks}, deterministic);
        for (const HeadRun& run : share.runs) {
          for (int64_t i = 0; i < run.heads; ++i) {
            const int64_t head = rank * share.heads + run.head + i, each = run.heads / run.kv_heads,
                          served_by = run.kv_head + i / each + (share.whole_kv ? 0 : rank * share.kv_heads);
            query_heads.insert(head);
            EXPECT_EQ(served_by, head / (config.heads / config.kv_heads)) << "query head " << head;
          }
        }
        for (int64_t i = 0; i < share.vocab_valid; ++i) tokens.insert(share.first_token + i);
        EXPECT_LE(share.vocab_valid, share.vocab_rows);
        ffn += share.ffn;
        slices += share.slices;
      }
      EXPECT_EQ(ffn, config.ffn);
      EXPECT_EQ(slices, config.canonical_slices());
      EXPECT_EQ(query_heads, (std::multiset<int64_t>{0, 1, 2, 3}));
      EXPECT_EQ(tokens, (std::multiset<int64_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}));
    }
  }
}

TEST(ModelShare, refuses_an_axis_that_cannot_hold_the_model) {
  EXPECT_THROW(ModelShare(tiny_config(), {0, 3}, false), UserError);
  EXPECT_EQ(why_not_split(4, 8, 2, true), "");
  EXPECT_NE(why_not_split(4, 8, 3, false).find("model.heads (4)"), std::string::npos);
  EXPECT_NE(why_not_split(8, 12, 8, false).find("model.ffn (12)"), std::string::npos);
  EXPECT_NE(why_not_split(12, 12, 6, true).find("power of two"), std::string::npos);
  EXPECT_EQ(why_not_split(12, 12, 6, false), "");
  EXPECT_NE(why_not_split(32, 32, 32, true).find("more than 16"), std::string::npos);
}

TEST(RowsOfPart, are_dealt_in_whole_pieces) {
  EXPECT_EQ(rows_of_part(11, 2, 4), 6);  // pieces of 3, two a rank
  EXPECT_EQ(rows_of_part(11, 4, 4), 3);
  EXPECT_EQ(rows_of_part(12, 3, 4), 4);  // four pieces do not go to three ranks: a piece a rank
  EXPECT_EQ(rows_of_part(0, 2, 4), 0);
}

}  // namespace
}  // namespace toroid::testing
