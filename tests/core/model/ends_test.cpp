// The two ends of the decoder against finite differences.
#include <gtest/gtest.h>

#include <cmath>

#include "core/model/next_token.h"
#include "tests/core/model/tiny_decoder.h"
#include "tests/core/op/gradient_check.h"

namespace toroid::testing {
namespace {

constexpr int64_t M = TinyDecoder::M, kBlock = 4;

TEST(Embedding, is_scaled_and_its_gradient_is_the_derivative) {
  TinyDecoder tiny(tiny_config());
  const UnitSpec spec = decoder_units(tiny.config)[0];
  TinyDecoder::Unit unit = tiny.unit(spec);
  const int64_t D = tiny.config.d_model;
  const Tensor table = unit.weights.tensors[0], x = tiny.filled({M, D}, 0), d_x = tiny.filled({M, D}, 1);
  const auto forward = [&] {
    const Array out = embed_forward(tiny.context, tiny.config, unit.weights, tiny.batch);
    tiny.device.copy(x, out.tensor);
  };
  forward();
  const double scale = std::sqrt(static_cast<double>(D));
  EXPECT_NEAR(op::load(x)[0], scale * op::load(table.slice_rows(1, 1))[0], 1e-12) << "token 1 comes first";
  embed_backward(tiny.context, tiny.config, tiny.batch, tiny.copy(d_x), unit.gradients[0]);
  EXPECT_FALSE(unit.gradients[0].fresh);
  check_gradients({forward, {x}, {d_x}, {{"table", table, unit.gradients[0].tensor}}});
}

class Head : public ::testing::TestWithParam<double> {};  // softcap
INSTANTIATE_TEST_SUITE_P(softcap, Head, ::testing::Values(0.0, 3.0),
                         [](const auto& softcap) { return softcap.param > 0 ? "capped" : "plain"; });

TEST_P(Head, gradient_is_the_derivative_of_the_loss) {
  DecoderConfig config = tiny_config();
  config.tied_head = false;
  config.logit_softcap = GetParam();
  TinyDecoder tiny(config);
  const UnitSpec spec = decoder_units(config).back();
  TinyDecoder::Unit unit = tiny.unit(spec);
  const Tensor x = tiny.filled({M, config.d_model}, 1), losses = tiny.filled({M}, 0),
               again = tiny.filled({M}, 0), along = tiny.filled({M}, 0);
  op::store(along, std::vector<double>(M, 0.125));  // the batch's scale
  tiny.pack(spec, unit.weights);
  const HeadInputs inputs{config, unit.weights, unit.weights.packs[0], tiny.batch, kBlock};
  const std::unique_ptr<Objective> objective = make_next_token();
  EXPECT_TRUE(objective->is_likelihood());
  const auto forward = [&] {
    tiny.pack(spec, unit.weights);
    objective->loss(tiny.context, inputs, x, losses, {});
  };
  forward();
  const Array d_x =
      objective->gradient(tiny.context, inputs, tiny.copy(x), again, {unit.gradients[0], unit.gradients[1]});
  EXPECT_EQ(op::load(again), op::load(losses)) << "the backward pass gives the loss again";
  EXPECT_EQ(op::load(losses)[4], 0) << "a masked token has no loss";
  check_gradients({forward,
                   {losses},
                   {along},
                   {{"x", x, d_x.tensor},
                    {"norm", unit.weights.tensors[0], unit.gradients[0].tensor},
                    {"table", unit.weights.tensors[1], unit.gradients[1].tensor}}},
                  1e-6);

  // The loss is minus the log of the softmax of the logits.
  const Array logits = head_logits(tiny.context, config, unit.weights, unit.weights.packs[0], x);
  const std::vector<double> z = op::load(logits.tensor);
  double total = 0;
  for (int64_t v = 0; v < config.vocab; ++v) total += std::exp(z[static_cast<size_t>(v)]);
  EXPECT_NEAR(op::load(losses)[0], std::log(total) - z[4], 1e-5) << "logits are f32";
}

}  // namespace
}  // namespace toroid::testing
