// Steps for which the pods say that they do not count: nothing of them is left, in this step or in those that
// were issued behind it.
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "parallel/pathways/in_world.h"
#include "tests/train/certify/local_layout.h"
#include "train/engine/engine.h"

namespace toroid::train {
namespace {

// The pods of one world, but that the test decides whether a step counts.
class WithdrawingPods final : public pathways::Pods {
 public:
  WithdrawingPods(Device& device, std::unique_ptr<pathways::Pods> pods)
      : device_(device), pods_(std::move(pods)), go_(device.array(DType::f32, {1}, "test")) {
    say(true);
  }
  void say(bool go) {
    const float value = go ? 1 : 0;
    device_.write(go_.tensor, std::as_bytes(std::span(&value, 1)));
  }
  void begin(std::span<const Tensor> masters) override { pods_->begin(masters); }
  void start(size_t shard, Array gradient, Phase phase) override {
    pods_->start(shard, std::move(gradient), phase);
  }
  Array finish(size_t shard) override { return pods_->finish(shard); }
  Tensor go() override { return go_.tensor; }
  bool commit(const Tensor& control) override { return pods_->commit(control); }
  void meet(std::span<const Tensor> masters) override { pods_->meet(masters); }
  bool apart() const override { return pods_->apart(); }
  int64_t steps_apart() const override { return pods_->steps_apart(); }
  void set_steps_apart(int64_t steps) override { pods_->set_steps_apart(steps); }
  Array gather(Array own, const CollectiveLabel& label) override {
    return pods_->gather(std::move(own), label);
  }
  std::vector<pathways::KeptPart> kept(size_t shard) const override { return pods_->kept(shard); }

 private:
  Device& device_;
  std::unique_ptr<pathways::Pods> pods_;
  Array go_;
};

using State = std::map<std::string, std::vector<float>>;

// A rank with pods of that kind.
class Rank {
 public:
  Rank(const config::RunConfig& run, std::unique_ptr<World> world)
      : run_(run),
        world_(std::move(world)),
        device_(local_device(plugins_)),
        groups_(RankLayout(mesh::Mesh(run.mesh()), *world_)
                    .groups(*world_, *device_, run.train().deterministic(), Cut::by_rule)) {
    StepOptions options = step_options(run);
    options.zero.make_pods = [this](Device& device, Communicator& pod, const pathways::Options& of,
                                    std::vector<pathways::Shard> shards) {
      auto out = std::make_unique<WithdrawingPods>(
          device, pathways::make_in_world_pods(device, pod, of, std::move(shards)));
      pods_ = out.get();
      return out;
    };
    program_ = std::make_unique<StepProgram>(*device_, groups_.zero(), decoder_config(run.model()), options,
                                             plugins_.optimizers.make(run.optim()));
    program_->initialise(run.train().seed());
  }
  StepResult step(int64_t step, bool go) {
    pods_->say(go);
    program_->upload(host_batch(synthetic_batch(run_, step)), 1e-2);
    program_->step();
    return program_->result(0);
  }
  State state() const {
    State out;
    const auto read = [&](const Tensor& tensor) {
      std::vector<float> values(static_cast<size_t>(tensor.elements()));
      device_->read(tensor, std::as_writable_bytes(std::span(values)));
      return values;
    };
    for (const NamedTensor& part : program_->zero().parts()) {
      std::vector<float>& values = out[part.part + " " + part.name];
      const std::vector<float> more = read(part.tensor);
      values.insert(values.end(), more.begin(), more.end());
    }
    out["state"] = read(program_->state());
    return out;
  }

 private:
  const config::RunConfig& run_;
  const Plugins plugins_;
  std::unique_ptr<World> world_;
  std::unique_ptr<Device> device_;
  AxisGroups groups_;
  std::unique_ptr<StepProgram> program_;
  WithdrawingPods* pods_ = nullptr;
};

void expect_same_bits(const State& found, const State& expected, const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [name, values] : expected) EXPECT_EQ(found.at(name), values) << what << ": " << name;
}

void expect_nothing_left(const std::string& layout, const std::vector<std::string>& sets) {
  config::RunConfig run = small_config("heads: 4 kv_heads: 2", sets);
  parse_layouts(layout)[0].apply(run);
  config::validate(run);
  const int ranks = mesh::Mesh(run.mesh()).world_size();
  const auto on_ranks = [&](const auto& work) {
    LocalJob of_ranks(ranks, {});
    EXPECT_EQ("", testing::run_rank_threads(ranks, [&](int rank) {
                Rank self(run, of_ranks.world(rank));
                work(self, static_cast<size_t>(rank));
              }));
  };
  std::vector<State> after_two(static_cast<size_t>(ranks)), after_five(after_two);
  std::vector<double> norms(static_cast<size_t>(ranks));
  on_ranks([&](Rank& self, size_t rank) {
    self.step(0, true);
    self.step(1, true);
    after_two[rank] = self.state();
    norms[rank] = self.step(2, true).gradient_norm;
    self.step(3, true);
    self.step(4, true);
    after_five[rank] = self.state();
  });
  on_ranks([&](Rank& self, size_t rank) {
    self.step(0, true);
    self.step(1, true);
    for (const int64_t lost : {2, 3}) {
      const StepResult result = self.step(lost, false);
      EXPECT_TRUE(result.withdrawn);
      EXPECT_FALSE(result.skipped);
      expect_same_bits(self.state(), after_two[rank], "behind step " + std::to_string(lost));
    }
    const StepResult again = self.step(2, true);
    EXPECT_FALSE(again.withdrawn);
    EXPECT_EQ(again.gradient_norm, norms[rank]);
    self.step(3, true);
    self.step(4, true);
    expect_same_bits(self.state(), after_five[rank], "after all steps");
  });
  EXPECT_NE(after_two[0], after_five[0]);
}

const std::vector<std::string> kAll = {"train.deterministic=false", "optim.ema.decay=0.9",
                                       "optim.clip_norm=0.5",
                                       "optim.skip={ zscore: 6 warmup: 1 decay: 0.9 }"};

TEST(WithdrawnStep, LeavesNothingBehindOnOneChip) {
  expect_nothing_left("1x1", kAll);
}

TEST(WithdrawnStep, LeavesNothingBehindUnderAnyRule) {
  for (const char* rule : {"optim.muon={}", "optim.lion={}", "optim.sgd={}"}) {
    std::vector<std::string> sets = kAll;
    sets.emplace_back(rule);
    expect_nothing_left("model 2 of 2x2", sets);
  }
}

TEST(WithdrawnStep, LeavesTheResidualsOfRoundedWires) {
  std::vector<std::string> sets = kAll;
  sets.emplace_back("pathways.wire=INT8");
  expect_nothing_left("pods 2 of 1x2", sets);
}

TEST(WithdrawnStep, LeavesNothingBehindInDeterministicMode) {
  expect_nothing_left("pods 2 of 1x1", {"optim.ema.decay=0.9"});
}

}  // namespace
}  // namespace toroid::train
