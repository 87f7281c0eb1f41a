// What an objective asks of each token reaches it, dealt and cut as the tokens are, and what it says of each
// is summed over all ranks.
#include "core/model/objective.h"

#include <gtest/gtest.h>

#include <numeric>

#include "core/base/error.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/op/combine.h"
#include "core/op/elementwise.h"
#include "tests/failure.h"
#include "tests/train/certify/local_layout.h"
#include "train/config/load.h"
#include "train/engine/engine.h"

namespace toroid::train {
namespace {

// The next token's loss, and on top of it a number of each token; which it also reports, and twice it.
class OnTop final : public Objective {
 public:
  std::vector<std::string> operands() const override { return {"more"}; }
  std::vector<std::string> metrics() const override { return {"more", "twice"}; }
  bool is_likelihood() const override { return false; }
  void loss(Context& c, const HeadInputs& in, const Tensor& x, const Tensor& token_loss,
            std::span<const Tensor> metrics) const override {
    next_token_->loss(c, in, x, token_loss, {});
    add(c, in, token_loss);
    c.launch(op::cast(in.operands[0], metrics[0]));
    c.launch(op::combine(in.operands[0], in.operands[0], metrics[1], {1, 1}));
  }
  Array gradient(Context& c, const HeadInputs& in, Array x, const Tensor& token_loss,
                 const HeadGradients& to) const override {
    Array out = next_token_->gradient(c, in, std::move(x), token_loss, to);
    add(c, in, token_loss);
    return out;
  }

 private:
  static void add(Context& c, const HeadInputs& in, const Tensor& token_loss) {
    c.launch(op::combine(token_loss, in.operands[0], token_loss, {1, 1}));
  }
  std::unique_ptr<Objective> next_token_ = make_next_token();
};

Plugins with_on_top() {
  Plugins plugins;
  plugins.objectives.add("on_top", [](const config::ObjectiveConfig&) { return std::make_unique<OnTop>(); });
  return plugins;
}

config::RunConfig run_of(const std::vector<std::string>& more) {
  std::vector<std::string> overrides{"train.precision=FP32", "batch.tokens_per_sequence=24",
                                     "batch.global_sequences=3", "batch.sequences_per_replica=2"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return config::load("configs/tiny_gemma.textproto", overrides).run;
}

Engine alone_on(const config::RunConfig& run, const Plugins& plugins) {
  Engine engine =
      make_engine(run, make_single_world(),
                  std::make_unique<CpuDevice>(plugins.cpu().kernels(1, Bf16Products::widened)), plugins);
  engine.program->initialise(1);
  return engine;
}

TEST(Objective, is_handed_the_numbers_that_it_asks_for) {
  const Plugins plugins = with_on_top();
  const config::RunConfig plain = run_of({}), more = run_of({"train.objective.custom.name=on_top"});
  const Engine without = alone_on(plain, plugins), with = alone_on(more, plugins);
  const Batch batch = synthetic_batch(more, 0, {"more"});
  const std::vector<float>& values = batch.operands.at("more");
  ASSERT_EQ(values.size(), batch.ids.size());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  EXPECT_GT(sum, 0);
  for (const Engine* engine : {&without, &with}) {
    engine->program->upload(host_batch(batch), 0);
    engine->program->step();
  }
  const double tokens = static_cast<double>(values.size());
  EXPECT_NEAR(with.program->result(0).loss - without.program->result(0).loss, sum / tokens, 1e-5);

  Batch two = synthetic_batch(more, 1, {"more"});  // as many sequences as are evaluated at once
  two.sequences = 2;
  for (std::vector<int32_t>* part : {&two.ids, &two.targets, &two.positions, &two.document_starts}) {
    part->resize(48);
  }
  two.operands["more"].resize(48);
  two.target_count = 48;
  const double two_sum = std::accumulate(two.operands["more"].begin(), two.operands["more"].end(), 0.0);
  const auto expected = without.program->evaluate(host_batch(two)),
             found = with.program->evaluate(host_batch(two));
  EXPECT_TRUE(expected.metric_sums.empty());
  ASSERT_EQ(found.metric_sums.size(), 2u);
  EXPECT_NEAR(found.metric_sums[0], two_sum, 1e-4);
  EXPECT_NEAR(found.metric_sums[1], 2 * two_sum, 1e-4);
  EXPECT_NEAR(found.loss_sum - expected.loss_sum, two_sum, 1e-3);
}

// Operands are dealt to the replicas with their tokens, padded and put in order like them.
TEST(Objective, gives_every_layout_the_same_bits) {
  config::RunConfig run = small_config("heads: 4 kv_heads: 2", {"train.objective.custom.name=on_top"});
  const std::vector<Layout> layouts = parse_layouts("1x1; 2x1; 2x2; model 2 of 2x1; pods 2 of 1x1");
  run = certified_config(run, layouts, 3);
  const auto train = [&](const Layout& layout) {
    return run_locally(
        run, layout, {}, [](World&) { return local_device(Plugins()); }, with_on_top());
  };
  const LayoutRun one = train(layouts[0]);
  for (const Layout& layout : layouts) {
    const Verdict verdict = compare_bits(one, train(layout));
    EXPECT_TRUE(verdict.passed) << layout.text() << ": "
                                << (verdict.findings.empty() ? "" : verdict.findings.front());
  }
}

TEST(Objective, is_refused_where_the_data_lacks_what_it_asks_for) {
  const Engine engine = alone_on(run_of({"train.objective.custom.name=on_top"}), with_on_top());
  Batch batch = synthetic_batch(run_of({}), 0);
  EXPECT_EQ(testing::failure_of<UserError>([&] { engine.program->upload(host_batch(batch), 0); }),
            "the objective needs \"more\" of each token, but the batches have nothing beside ids and "
            "targets; train "
            "on data that has it, or with another train.objective");
  batch.operands["less"] = std::vector<float>(batch.ids.size());
  batch.operands["more"] = std::vector<float>(batch.ids.size() - 1);
  EXPECT_NE(testing::failure_of<UserError>([&] {
              engine.program->upload(host_batch(batch), 0);
            }).find("but the batches have \"less\", \"more\""),
            std::string::npos);
}

}  // namespace
}  // namespace toroid::train
