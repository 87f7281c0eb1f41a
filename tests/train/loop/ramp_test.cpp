// Runs whose batches grow, and runs that are told what to do by another source than their config.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/train/loop/runs.h"
#include "train/loop/dry_run.h"

namespace toroid::train {
namespace {

const std::string kRamp =
    "batch={ tokens_per_sequence: 32 sequences_per_replica: 2 ramp { global_sequences: 2 } "
    "ramp { step: 3 global_sequences: 4 } ramp { step: 5 global_sequences: 7 } }";

class RampTest : public RunsTest {
 protected:
  static nlohmann::json row(const std::string& name, int64_t step) {
    std::ifstream in(root_ / name / "metrics.jsonl");
    for (std::string line; std::getline(in, line);) {
      const nlohmann::json found = nlohmann::json::parse(line);
      if (found.at("step") == step && found.contains("loss")) return found;
    }
    return {};
  }
};

TEST_F(RampTest, EachStepTakesItsPhasesSequences) {
  EXPECT_EQ(run(options("ramp", {kRamp})), ExitCode::done);
  int64_t tokens = 0;
  for (int64_t step = 1; step <= 8; ++step) {
    const int64_t sequences = step <= 3 ? 2 : step <= 5 ? 4 : 7;
    tokens += 32 * sequences;
    const nlohmann::json found = row("ramp", step);
    EXPECT_EQ(found.at("tokens"), tokens) << step;
    EXPECT_NEAR(found.at("tokens_per_s").get<double>() * found.at("step_s").get<double>(),
                static_cast<double>(32 * sequences), 1e-6);
  }
  const CheckpointReader last(root_ / "ramp");
  EXPECT_EQ(last.state().next_sequence, 3 * 2 + 2 * 4 + 3 * 7);
  // The steps of the first phase are those of a run that has no other.
  EXPECT_EQ(run(options("small", {"batch.global_sequences=2", "train.steps=3",
                                  "optim.schedule.cosine.steps=8", "train.validate.every=0"})),
            ExitCode::done);
  for (int64_t step = 1; step <= 3; ++step)
    EXPECT_EQ(row("ramp", step).at("loss"), row("small", step).at("loss"));
}

// In the middle of the ramp, between two phases, and behind it.
TEST_F(RampTest, AResumedRampIsTheUninterruptedOne) {
  for (const std::string deterministic : {"false", "true"}) {
    const std::vector<std::string> sets{kRamp, "train.deterministic=" + deterministic,
                                        "train.checkpoint.every=1", "train.checkpoint.keep=20"};
    const std::string whole = "whole" + deterministic;
    EXPECT_EQ(run(options(whole, sets)), ExitCode::done);
    for (const int64_t stop : {2, 3, 4, 6}) {
      const std::string name = "part" + deterministic + std::to_string(stop);
      EXPECT_EQ(run(options(name, sets)), ExitCode::done);
      TrainOptions rest = options(name, sets);
      rest.resume = root_ / name / "checkpoints" / ("step-" + std::to_string(stop));
      EXPECT_EQ(run(rest), ExitCode::done);
      EXPECT_EQ(metrics(whole), metrics(name)) << "resumed at " << stop;
      EXPECT_EQ(hashes(whole), hashes(name)) << "resumed at " << stop;
    }
  }
}

TEST_F(RampTest, TheDryRunShowsThePhases) {
  const Plugins plugins;
  const config::RunConfig run = resolved({kRamp}).run;
  std::ostringstream out;
  print_record(out, run, record_dry(run, plugins));
  for (const char* line : {"          0            2           64             1",
                           "          3            4          128             2",
                           "          5            7          224             4",
                           "operators and memory below are the last phase's"}) {
    EXPECT_NE(out.str().find(line), std::string::npos) << line << "\n" << out.str();
  }
  const config::RunConfig plain = resolved({"batch.global_sequences=7"}).run;
  std::ostringstream without;
  print_record(without, plain, record_dry(plain, plugins));
  EXPECT_EQ(without.str().find("ramp"), std::string::npos);
  // Behind the phases' lines all is the same.
  const std::string& with = out.str();
  EXPECT_EQ(with.substr(with.find("operators of a step")),
            without.str().substr(without.str().find("operators of a step")));
}

// Validates, saves and stops where it likes.
class OtherOrders final : public StepOrders {
 public:
  OtherOrders(const Dealer& dealer, int64_t first_step) : dealer_(dealer), step_(first_step) {}
  StepOrder next(int signal) override {
    EXPECT_EQ(signal, 0);
    StepOrder order;
    order.step = step_;
    order.validate = step_ == 1;
    order.save = order.stop = step_ == 3;
    if (order.stop) return order;
    order.sequences = 4;
    order.deal = dealer_.deal(4);
    ++step_;
    return order;
  }

 private:
  Dealer dealer_;
  int64_t step_;
};

TEST_F(RampTest, TheLoopFollowsAnotherSource) {
  TrainOptions told = options("told", {"train.validate.every=0", "train.checkpoint.every=0"});
  told.orders = [](const config::RunConfig&, const Dealer& dealer, int64_t first_step) {
    return std::make_unique<OtherOrders>(dealer, first_step);
  };
  EXPECT_EQ(run(told), ExitCode::saved_on_signal);
  EXPECT_TRUE(row("told", 4).is_null());
  EXPECT_FALSE(row("told", 3).is_null());
  EXPECT_NE(metrics("told").find("{\"step\":1,\"validation_loss\""), std::string::npos) << metrics("told");
  TrainOptions rest = options("told", {"train.validate.every=0", "train.checkpoint.every=0"});
  rest.resume = root_ / "told";
  EXPECT_EQ(run(rest), ExitCode::done);
  EXPECT_EQ(run(options("untold", {"train.validate.every=0"})), ExitCode::done);
  EXPECT_EQ(hashes("told"), hashes("untold"));
}

}  // namespace
}  // namespace toroid::train
