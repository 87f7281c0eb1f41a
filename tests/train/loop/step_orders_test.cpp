// What the loop is told to do, where the config alone decides.
#include "train/loop/step_orders.h"

#include <gtest/gtest.h>

#include "tests/train/config/ramp_recipe.h"

namespace toroid::train {
namespace {

using test::kRamp;
using test::recipe;

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
