// What is said of a config before a run.
#include "train/report/warnings.h"

#include <gtest/gtest.h>

#include "tests/train/config/recipe_text.h"

namespace toroid::train {
namespace {

std::vector<std::string> of(const std::vector<std::string>& overrides, const Plugins& plugins = {}) {
  return warnings(config::load_text(test::recipe_text(), "recipe", overrides), plugins);
}

TEST(Warnings, AScheduleThatEndsWithTheRunOrLaterIsFine) {
  EXPECT_TRUE(of({}).empty());
  EXPECT_TRUE(of({"optim.schedule.cosine.steps=8"}).empty());
  EXPECT_TRUE(of({"optim.schedule.cosine.steps=9"}).empty());
  EXPECT_TRUE(of({"optim.schedule.constant.peak=1"}).empty());
}

TEST(Warnings, EverySchedulesEndIsKnown) {
  for (const std::string kind : {"cosine", "linear", "warmup_stable_decay"}) {
    const std::string at = "optim.schedule." + kind + ".";
    const auto found = of({at + "peak=2", at + "final_fraction=0.25", at + "steps=5"});
    ASSERT_EQ(found.size(), 1u) << kind;
    EXPECT_EQ(found[0], "the schedule ends at step 5, and 3 steps follow at rate 0.5; set " + at +
                            "steps to end it elsewhere (train.steps is 8)");
  }
  EXPECT_NE(of({"optim.schedule.cosine.steps=7"}).at(0).find("1 step follows at rate 0;"), std::string::npos);
}

TEST(Warnings, OfACustomScheduleAnEndIsKnownWhereItSaysSo) {
  Plugins plugins;
  plugins.schedules.add("endless", [](const config::ScheduleConfig&) { return [](int64_t) { return 0.5; }; });
  plugins.schedules.add(
      "short", [](const config::ScheduleConfig&) { return optim::Schedule([](int64_t) { return 0.5; }, 2); });
  EXPECT_TRUE(of({"optim.schedule.custom.name=endless"}, plugins).empty());
  const auto found = of({"optim.schedule.custom.name=short"}, plugins);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_NE(found[0].find("ends at step 2, and 6 steps follow at rate 0.5"), std::string::npos) << found[0];
}

TEST(Warnings, OfABatchThatNoStepTakes) {
  const std::vector<std::string> ramp{"batch.ramp+={ global_sequences: 2 }",
                                      "batch.ramp+={ step: 8 global_sequences: 4 }"};
  const auto found = of(ramp);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(
      found[0],
      "batch.ramp[1].global_sequences is for steps from 8 on, and the run ends before them (train.steps "
      "is 8)");
  EXPECT_TRUE(of({ramp[0], "batch.ramp+={ step: 7 global_sequences: 4 }"}).empty());
}

// A stored run made longer: one sentence for the schedule, and one for each other value that was left behind.
TEST(Warnings, AreOfWhatAStoredRunKeeps) {
  const std::string stored = config::to_text(config::load_text(test::recipe_text(), "recipe"));
  const std::vector<std::string> longer{"train.steps=11", "model.head_dim=16"};
  const auto found = warnings(config::load_text(stored, "stored", longer), Plugins());
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(
      found[0],
      "the schedule ends at step 8, and 3 steps follow at rate 0; set optim.schedule.cosine.steps to end it "
      "elsewhere (train.steps is 11)");
  EXPECT_EQ(found[1].rfind("model.query_pre_attn_scalar is 8, which followed from model.head_dim;", 0), 0u)
      << found[1];
  // And shorter: the rate does not come down.
  const std::vector<std::string> shorter{"train.steps=6"};
  const auto early = warnings(config::load_text(stored, "stored", shorter), Plugins());
  ASSERT_EQ(early.size(), 1u);
  EXPECT_EQ(
      early[0].rfind("optim.schedule.cosine.steps is 8, which followed from train.steps; that is now 6", 0),
      0u)
      << early[0];
}

}  // namespace
}  // namespace toroid::train
