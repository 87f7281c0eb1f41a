// A layer's backward pass against finite differences of its forward pass, for each member of the family, and
// what the policies of recomputation keep.
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "tests/core/model/tiny_decoder.h"
#include "tests/core/op/gradient_check.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

struct Family {
  std::string name;
  DecoderConfig config;
};

std::vector<Family> families() {
  std::vector<Family> out{{"gated", tiny_config()},
                          {"plain_multi_query", tiny_config()},
                          {"post_norms_and_softcap", tiny_config()},
                          {"qk_norm", tiny_config()},
                          {"parallel", tiny_config()},
                          {"parallel_plain_multi_query_qk_norm", tiny_config()}};
  out[1].config.gated_mlp = false;
  out[1].config.activation = op::activation_of<op::activation::Silu>;
  out[1].config.kv_heads = 1;
  out[2].config.post_norms = true;
  out[2].config.attention_softcap = 2;
  out[3].config.qk_norm = true;
  out[3].config.rope_local_base = 100;
  out[4].config.parallel_layers = true;
  out[5].config = out[1].config;
  out[5].config.parallel_layers = out[5].config.qk_norm = true;
  return out;
}

class LayerTest : public ::testing::TestWithParam<Family> {};
INSTANTIATE_TEST_SUITE_P(family, LayerTest, ::testing::ValuesIn(families()),
                         [](const auto& family) { return family.param.name; });

// Both passes of the layer `index`, on a decoder of its own.
class Passes {
 public:
  Passes(const DecoderConfig& config, int64_t index, DType compute = DType::f64)
      : tiny(config, compute),
        spec(decoder_units(config)[static_cast<size_t>(1 + index)]),
        layer(tiny.config, index),
        unit(tiny.unit(spec)),
        x(tiny.filled({TinyDecoder::M, config.d_model}, 1)),
        d_out(tiny.filled({TinyDecoder::M, config.d_model}, 1)),
        out(tiny.filled({TinyDecoder::M, config.d_model}, 0)) {}

  void forward(Keep keep = Keep::all()) {
    tiny.pack(spec, unit.weights);
    saved = Saved{};
    tiny.context.phase = Phase::forward;
    const Array result = layer.forward(tiny.context, unit.weights, tiny.batch, tiny.copy(x), saved, keep);
    tiny.device.copy(out, result.tensor);
  }
  Tensor backward() {
    return tiny.keep(
        layer.backward(tiny.context, unit.weights, tiny.batch, tiny.copy(d_out), saved, unit.gradients));
  }

  TinyDecoder tiny;
  UnitSpec spec;
  Layer layer;
  TinyDecoder::Unit unit;
  Tensor x, d_out, out;
  Saved saved;
};

TEST_P(LayerTest, backward_is_the_derivative_of_forward) {
  for (const int64_t index : {0, 1}) {  // sees all, sees a window
    SCOPED_TRACE("layer " + std::to_string(index));
    Passes run(GetParam().config, index);
    run.forward();
    const Tensor d_x = run.backward();
    GradientCheck check{[&] { run.forward(); }, {run.out}, {run.d_out}, {{"x", run.x, d_x}}};
    for (size_t i = 0; i < run.spec.tensors.size(); ++i) {
      EXPECT_FALSE(run.unit.gradients[i].fresh) << run.spec.tensors[i].name;
      check.inputs.push_back(
          {run.spec.tensors[i].name, run.unit.weights.tensors[i], run.unit.gradients[i].tensor});
    }
    // The norms' and the softmax's statistics are f32, which the backward pass reads.
    check_gradients(check, 1e-6);
  }
}

// A second microbatch's gradient is added to the first one's.
TEST_P(LayerTest, gradients_add_up) {
  Passes once(GetParam().config, 0), twice(GetParam().config, 0);
  for (Passes* run : {&once, &twice, &twice}) {
    run->forward();
    run->backward();
  }
  for (size_t i = 0; i < once.spec.tensors.size(); ++i) {
    const std::vector<double> one = op::load(once.unit.gradients[i].tensor),
                              two = op::load(twice.unit.gradients[i].tensor);
    for (size_t j = 0; j < one.size(); ++j) {
      EXPECT_NEAR(two[j], 2 * one[j], 1e-12 * std::max(1.0, std::abs(one[j]))) << once.spec.tensors[i].name;
    }
  }
}

// What did not survive is computed again: in bf16, in which it is kept, to the same bits. In f64 the backward
// pass makes norms from their f32 statistics.
TEST_P(LayerTest, policies_of_recomputation_change_nothing) {
  for (const DType type : {DType::f64, DType::bf16}) {
    const auto expect_same = [&](const Tensor& got, const Tensor& want, const std::string& what) {
      if (type == DType::bf16) {
        EXPECT_TRUE(bytes_in(got) == bytes_in(want)) << what;
        return;
      }
      const std::vector<double> a = op::load(got), b = op::load(want);
      for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-6 * (1 + std::abs(b[i]))) << what;
    };
    Passes whole(GetParam().config, 1, type);
    whole.forward(Keep::all());
    const Tensor d_x = whole.backward();
    for (const Keep keep : {Keep::cheap(), Keep::input()}) {
      Passes run(GetParam().config, 1, type);
      run.forward(keep);
      for (size_t slot = 0; slot < kSlots; ++slot) {
        EXPECT_TRUE(!run.saved.slots[slot].tensor || keep.has(static_cast<Slot>(slot)))
            << "slot " << slot << " was to be dropped";
      }
      EXPECT_TRUE(run.saved[Slot::x].tensor);
      EXPECT_TRUE(bytes_in(run.out) == bytes_in(whole.out)) << "the forward pass does the same";
      expect_same(run.backward(), d_x, "d_x");
      for (size_t i = 0; i < run.spec.tensors.size(); ++i) {
        expect_same(run.unit.gradients[i].tensor, whole.unit.gradients[i].tensor, run.spec.tensors[i].name);
      }
      for (const Array& slot : run.saved.slots) {
        EXPECT_FALSE(slot.tensor) << "the backward pass uses up what was saved";
      }
    }
  }
}

// Generation, one token after the other, sees what training sees of a whole document.
TEST_P(LayerTest, a_cache_gives_the_rows_of_the_whole_sequence) {
  Passes run(GetParam().config, 1);
  TinyDecoder& tiny = run.tiny;
  run.forward();
  const int64_t T = TinyDecoder::T, kv = GetParam().config.kv_heads * GetParam().config.head_dim;
  Cache cache{tiny.filled({T, kv}, 0), tiny.filled({T, kv}, 0), T, 0};
  for (int32_t t = 0; t < T; ++t) {
    Microbatch token;
    token.sequences = token.tokens = 1;
    token.positions = tiny.integers({t});
    token.starts = tiny.integers({0});
    const RopeTables tables = make_rope_tables(tiny.context, tiny.config, token);
    const Array row =
        run.layer.extend(tiny.context, run.unit.weights, token, tiny.copy(run.x.slice_rows(t, 1)), cache);
    EXPECT_EQ(cache.length, t + 1);
    const std::vector<double> got = op::load(row.tensor), want = op::load(run.out.slice_rows(t, 1));
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-12) << "token " << t;
  }
}

TEST(Keep, is_a_set_of_slots) {
  EXPECT_TRUE(Keep::input().has(Slot::x));
  EXPECT_FALSE(Keep::input().has(Slot::mid));
  EXPECT_FALSE(Keep::cheap().has(Slot::h1));
  EXPECT_TRUE(Keep::cheap().has(Slot::pre));
  for (size_t slot = 0; slot < kSlots; ++slot) {
    const bool gathered = static_cast<Slot>(slot) == Slot::all_h1 || static_cast<Slot>(slot) == Slot::all_h2;
    EXPECT_EQ(Keep::all().has(static_cast<Slot>(slot)), !gathered) << slot;
  }
  EXPECT_TRUE(Keep::input().gathered().has(Slot::all_h2));
  EXPECT_FALSE(Keep::all().gathered().has(Slot::h1)) << "a part of what is gathered";
  EXPECT_FALSE(Keep::all().without(Slot::lse).has(Slot::lse));
}

TEST(LayerWithoutItsInput, says_so) {
  Passes run(tiny_config(), 0);
  run.forward(Keep::all().without(Slot::x).without(Slot::h1));
  EXPECT_THROW(run.backward(), InternalError);
}

}  // namespace
}  // namespace toroid::testing
