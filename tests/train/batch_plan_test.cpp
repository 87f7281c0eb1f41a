// What follows from the size of a step's batch: who takes which of its sequences, and what the loop is told.
#include "train/batch_plan.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/train/config/recipe_text.h"
#include "train/config/load.h"
#include "train/step_orders.h"

namespace toroid::train {
namespace {

config::RunConfig recipe(const std::vector<std::string>& overrides) {
  return config::load_text(test::recipe_text(), "recipe", overrides).run;
}

const std::string kRamp =
    "batch={ tokens_per_sequence: 16 ramp { global_sequences: 2 } ramp { step: 3 global_sequences: 4 } "
    "ramp { step: 5 global_sequences: 9 } }";

TEST(BatchPlan, IsOneSizeWithoutARamp) {
  const BatchPlan plan(recipe({}).batch());
  EXPECT_FALSE(plan.ramps());
  EXPECT_EQ(plan.sequences(0), 4);
  EXPECT_EQ(plan.sequences(1'000'000), 4);
  EXPECT_EQ(plan.taken_before(0), 0);
  EXPECT_EQ(plan.taken_before(7), 28);
  EXPECT_EQ(to_text(plan), "4 sequences a step");
}

TEST(BatchPlan, GoesByThePhasesOfARamp) {
  const config::RunConfig run = recipe({kRamp});
  const BatchPlan plan(run.batch());
  EXPECT_TRUE(plan.ramps());
  EXPECT_EQ(run.batch().global_sequences(), 9) << "follows from the last phase";
  EXPECT_EQ(plan.most(), 9);
  int64_t taken = 0, step = 0;
  for (const int64_t sequences : {2, 2, 2, 4, 4, 9, 9, 9}) {
    EXPECT_EQ(plan.taken_before(step), taken) << step;
    EXPECT_EQ(plan.sequences(step), sequences) << step;
    taken += sequences;
    ++step;
  }
  EXPECT_EQ(to_text(plan), "2 sequences a step, 4 from step 3 on, 9 from step 5 on");
}

// Every sequence of a step goes to one microbatch of one replica; a pod's lie side by side.
TEST(Dealer, DealsEverySequenceOnce) {
  for (const bool deterministic : {false, true}) {
    for (const int pods : {1, 2, 4}) {
      for (const int data : {1, 2, 8}) {
        for (const int64_t each : {1, 3}) {
          if (deterministic && each > 1) continue;
          for (const int64_t sequences : {1, 5, 16, 33}) {
            std::set<int64_t> dealt;
            int64_t slots = 0;
            for (int pod = 0; pod < pods; ++pod) {
              for (int rank = 0; rank < data; ++rank) {
                const Deal deal = Dealer({pod, pods}, {rank, data}, each, deterministic).deal(sequences);
                slots += deal.microbatches * deal.sequences;
                for (int64_t i = 0; i < deal.microbatches * deal.sequences; ++i) {
                  const int64_t one = deal.first + i / each * deal.stride + i % each;
                  EXPECT_TRUE(dealt.insert(one).second) << one;
                  EXPECT_GE(one, deal.pod_first);
                  EXPECT_LT(one, deal.pod_first + deal.pod_sequences);
                }
              }
            }
            EXPECT_EQ(static_cast<int64_t>(dealt.size()), slots);
            EXPECT_EQ(*dealt.rbegin() + 1, slots) << "without a gap";
            EXPECT_GE(slots, sequences);
            EXPECT_TRUE(!deterministic || (slots & (slots - 1)) == 0) << slots;
          }
        }
      }
    }
  }
}

TEST(StepOrders, FollowFromTheConfig) {
  const config::RunConfig run =
      recipe({kRamp, "train.steps=7", "train.validate.every=3", "train.checkpoint.every=2"});
  const Dealer dealer({}, {}, 1, false);
  const auto orders = orders_of_config(run, dealer, 1);
  for (int64_t step = 1; step < 7; ++step) {
    const StepOrder order = orders->next(0);
    EXPECT_EQ(order.step, step);
    EXPECT_FALSE(order.stop);
    EXPECT_EQ(order.sequences, step < 3 ? 2 : step < 5 ? 4 : 9);
    EXPECT_EQ(order.deal.microbatches, order.sequences);
    EXPECT_EQ(order.validate, step > 1 && step % 3 == 0) << step;
    EXPECT_EQ(order.save, step > 1 && step % 2 == 0) << step;
  }
  const StepOrder last = orders->next(0);
  EXPECT_EQ(last.step, 7);
  EXPECT_TRUE(last.stop && last.save && last.validate);
}

TEST(StepOrders, ASignalSavesAndStops) {
  const config::RunConfig run = recipe({"train.validate.every=1"});
  const auto orders = orders_of_config(run, Dealer({}, {}, 1, false), 0);
  EXPECT_FALSE(orders->next(0).save) << "nothing has been trained";
  const StepOrder order = orders->next(15);
  EXPECT_EQ(order.step, 1);
  EXPECT_TRUE(order.save && order.stop);
  EXPECT_FALSE(order.validate);
}

}  // namespace
}  // namespace toroid::train
