#include "train/config/batch_plan.h"

#include <gtest/gtest.h>

#include "tests/train/config/ramp_recipe.h"

namespace toroid::train {
namespace {

using test::kRamp;
using test::recipe;

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

}  // namespace
}  // namespace toroid::train
