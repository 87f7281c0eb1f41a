// A unit's slices over a model axis and a data axis: every element of every tensor lies on exactly one
// counted place.
#include "parallel/zero/unit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/model/model.pb.h"
#include "core/op/reduce.h"

namespace toroid {
namespace {

DecoderConfig small(int64_t heads, int64_t kv_heads, int64_t vocab) {
  DecoderConfig c;
  c.d_model = 24, c.layers = 1, c.heads = heads, c.kv_heads = kv_heads, c.head_dim = 8, c.ffn = 48;
  c.vocab = vocab;
  c.post_norms = c.qk_norm = true;
  c.local.assign(1, false);
  return c;
}

// How often each element of each tensor is counted, over all ranks.
void expect_each_element_once(const DecoderConfig& config, int model, int shards, bool deterministic) {
  std::map<std::string, std::vector<int>> counts;
  for (int rank = 0; rank < model; ++rank) {
    for (const UnitSpec& spec : decoder_units(config, model, deterministic)) {
      const Unit unit = make_unit(spec, {rank, model}, shards);
      ASSERT_EQ(unit.flat_elements % shards, 0);
      const int64_t share = unit.flat_elements / shards;
      // No block of a sum holds two tensors, whether it is whole or a shard.
      ASSERT_TRUE(share % op::kReduceBlock == 0 || op::kReduceBlock % share == 0) << share;
      ASSERT_GE(unit.flat_elements, unit.blocks * op::kReduceBlock);
      // At most twice what is needed, but for the smallest shard.
      ASSERT_LE(unit.flat_elements,
                std::max<int64_t>(2 * unit.blocks * op::kReduceBlock, 256 * int64_t{shards}));
      for (size_t t = 0; t < spec.tensors.size(); ++t) {
        auto& count = counts[spec.tensors[t].name];
        count.resize(static_cast<size_t>(spec.tensors[t].shape.elements()));
        EXPECT_EQ(unit.slices[t].offset % op::kReduceBlock, 0);
        EXPECT_EQ(unit.slices[t].offset<unit.whole_elements, model> 1 && !unit.slices[t].split);
        for (int shard = 0; shard < shards; ++shard) {
          for (const Piece& piece : unit.pieces(t, shard * share, (shard + 1) * share)) {
            ASSERT_GE(piece.offset, shard * share);
            ASSERT_LE(piece.offset + piece.elements, (shard + 1) * share);
            for (int64_t i = 0; i < piece.elements && unit.slices[t].counted; ++i) {
              ++count.at(static_cast<size_t>(piece.global + i));
            }
          }
        }
      }
    }
  }
  for (const auto& [name, count] : counts) {
    for (size_t i = 0; i < count.size(); ++i) ASSERT_EQ(count[i], 1) << name << ", element " << i;
  }
}

TEST(Unit, CountsEveryElementOnce) {
  for (const int model : {1, 2, 4}) {
    for (const int shards : {1, 3, 16, 256}) {
      for (const int64_t kv_heads : {1, 2, 4}) {
        // 97 and 9 rows are padded; of 9, whole ranks hold nothing else.
        for (const int64_t vocab : {96, 97, 9}) {
          for (const bool deterministic : {false, true}) {
            SCOPED_TRACE("model " + std::to_string(model) + ", kv " + std::to_string(kv_heads) + ", V " +
                         std::to_string(vocab));
            expect_each_element_once(small(4, kv_heads, vocab), model, shards, deterministic);
          }
        }
      }
    }
  }
}

TEST(Unit, SlicesOverlapNowhere) {
  const DecoderConfig config = small(4, 1, 97);
  for (const UnitSpec& spec : decoder_units(config, 2)) {
    const Unit unit = make_unit(spec, {1, 2}, 2);
    std::map<int64_t, int64_t> ends;
    for (const Slice& slice : unit.slices) ends[slice.offset] = slice.offset + slice.shape.elements();
    int64_t last = 0;
    for (const auto& [begin, end] : ends) {
      EXPECT_GE(begin, last) << spec.name;
      last = end;
    }
    EXPECT_LE(last, unit.flat_elements);
  }
}

// What a tensor's weights are drawn with before step 1, by name.
std::map<std::string, double> deviations(const config::ModelConfig& model) {
  std::map<std::string, double> out;
  for (const UnitSpec& unit : decoder_units(decoder_config(model))) {
    for (const TensorSpec& tensor : unit.tensors) out[tensor.name] = tensor.init_stddev;
  }
  return out;
}

TEST(DecoderUnits, TheConfigSaysHowWideWeightsBegin) {
  config::ModelConfig model;
  model.set_d_model(64), model.set_layers(1), model.set_heads(2), model.set_head_dim(32), model.set_ffn(128);
  model.set_vocab(100), model.set_tied_head(false);
  std::map<std::string, double> found = deviations(model);
  EXPECT_EQ(found["model.embed_tokens.weight"], 0.125);
  EXPECT_EQ(found["model.layers.0.self_attn.q_proj.weight"], 0.02);
  EXPECT_EQ(found["lm_head.weight"], 0.02);
  EXPECT_EQ(found["model.layers.0.input_layernorm.weight"], 0);

  model.mutable_init()->set_embedding(0.03);
  model.mutable_init()->set_linear(0.05);
  found = deviations(model);
  EXPECT_EQ(found["model.embed_tokens.weight"], 0.03);
  EXPECT_EQ(found["model.layers.0.mlp.down_proj.weight"], 0.05);
  EXPECT_EQ(found["lm_head.weight"], 0.05);
  EXPECT_EQ(found["model.norm.weight"], 0);
}

}  // namespace
}  // namespace toroid
