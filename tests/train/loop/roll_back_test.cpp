// Steps that fail again and again: the run goes back, leaves their data out, and ends where a run ends that
// had it left out from the beginning.
#include "train/loop/roll_back.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/device/cpu/cpu_kernels.h"
#include "tests/train/loop/runs.h"

namespace toroid::train {
namespace {

using RollBackTest = RunsTest;

// One of so many microbatches is poisoned; which ones depends on their targets alone.
constexpr int64_t kOneOf = 13;

void poison_reference(const Call& call) {
  const auto* targets = call[0].as<int32_t>();
  auto* loss = call[1].as<float>();
  int64_t sum = 0;
  for (int64_t i = 0; i < call[0].elements(); ++i) sum += targets[i];
  if (sum % kOneOf == 0) loss[0] = std::numeric_limits<float>::quiet_NaN();
}

Cost poison_cost(const Call& call) {
  Cost cost;
  cost.bytes_read = call[0].bytes();
  cost.bytes_written = call[1].bytes();
  return cost;
}

const OpKind poison_kind{"poison", poison_cost, poison_reference, nullptr};

class PoisonedObjective final : public Objective {
 public:
  bool is_likelihood() const override { return true; }
  std::vector<std::string> metrics() const override { return {}; }
  void loss(Context& c, const HeadInputs& in, const Tensor& x, const Tensor& token_loss,
            std::span<const Tensor> metrics) const override {
    next_token_->loss(c, in, x, token_loss, metrics);
  }
  Array gradient(Context& c, const HeadInputs& in, Array x, const Tensor& token_loss,
                 const HeadGradients& to) const override {
    Array out = next_token_->gradient(c, in, std::move(x), token_loss, to);
    Call call;
    call.kind = &poison_kind;
    call.operands = {{in.batch.targets, Access::in}, {token_loss, Access::inout}};
    call.phase = Phase::backward;
    c.device.launch(call);
    return out;
  }

 private:
  std::unique_ptr<Objective> next_token_ = make_next_token();
};

Plugins poisoned() {
  Plugins plugins;
  plugins.objectives.add(
      "poisoned", [](const config::ObjectiveConfig&) { return std::make_unique<PoisonedObjective>(); });
  plugins.devices["CPU"].kernels = [](int threads, Bf16Products products) {
    auto kernels = make_cpu_kernels(threads, products);
    kernels->add(poison_kind,
                 {[](const Call& call, const LaunchContext&) { poison_reference(call); }, nullptr});
    return kernels;
  };
  return plugins;
}

std::vector<std::string> overrides(const std::vector<std::string>& more) {
  std::vector<std::string> out{"train.objective.custom.name=poisoned",
                               "train.steps=14",
                               "batch.sequences_per_replica=2",
                               "train.checkpoint.every=3",
                               "train.checkpoint.keep=20",
                               "optim.skip.max_consecutive=1"};
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

TEST_F(RollBackTest, EndsAsARunThatLeftTheDataOutFromTheBeginning) {
  const Plugins plugins = poisoned();
  ASSERT_EQ(run(options("back", overrides({"optim.skip.roll_backs=50"})), plugins), ExitCode::done);
  const CheckpointReader last(root_ / "back");
  EXPECT_EQ(last.state().step, 14);
  EXPECT_EQ(last.state().counters.at("skipped_total"), 0);
  ASSERT_FALSE(last.state().skipped.empty()) << "no step was poisoned";
  std::vector<std::string> skips = overrides({"optim.skip.roll_backs=0"});
  for (const SequenceRange& range : last.state().skipped) {
    skips.push_back("data.skip+={ first: " + std::to_string(range.first) +
                    " last: " + std::to_string(range.last) + " }");
  }
  ASSERT_EQ(run(options("reference", skips), plugins), ExitCode::done);
  EXPECT_EQ(hashes("back"), hashes("reference"));
  EXPECT_EQ(metrics("back"), metrics("reference"));
  EXPECT_EQ(CheckpointReader(root_ / "reference").state().next_sequence, last.state().next_sequence);
  EXPECT_EQ(checkpoint_steps(root_ / "back"), (std::vector<int64_t>{3, 6, 9, 12, 14}));
}

TEST_F(RollBackTest, StopsAfterAsManyAsTheConfigSaysAndGoesOnWhenResumed) {
  const Plugins plugins = poisoned();
  ASSERT_EQ(run(options("stops", overrides({"optim.skip.roll_backs=0"})), plugins), ExitCode::too_many_skips);
  TrainOptions rest = options("stops", overrides({"optim.skip.roll_backs=50"}));
  rest.resume = root_ / "stops";
  ASSERT_EQ(run(rest, plugins), ExitCode::done);
  EXPECT_EQ(hashes("stops"), hashes("back"));
}

TEST_F(RollBackTest, WithoutACheckpointThereIsNothingToGoBackTo) {
  EXPECT_EQ(run(options("none", overrides({"train.checkpoint.every=0"})), poisoned()),
            ExitCode::too_many_skips);
  EXPECT_TRUE(checkpoint_steps(root_ / "none").empty());
}

TEST_F(RollBackTest, TakesTheNewestThatIsWholeAndBeforeTheData) {
  ASSERT_EQ(run(options("steps", {"train.checkpoint.every=2"})), ExitCode::done);  // 4 sequences a step
  const Path run = root_ / "steps";
  EXPECT_EQ(step_to_go_back_to(run, {24, 32}), 6);
  EXPECT_EQ(step_to_go_back_to(run, {23, 32}), 4);
  EXPECT_EQ(step_to_go_back_to(run, {4, 12}), 2);  // none is before: the newest that is not past it
  EXPECT_EQ(step_to_go_back_to(run, {4, 8}), std::nullopt);
  write_file(run / "checkpoints/step-6/manifest.json", "{}");
  EXPECT_EQ(step_to_go_back_to(run, {24, 32}), 4);
}

}  // namespace
}  // namespace toroid::train
