// Skipped steps in a row, and what is said of them.
#include "train/loop/skip_watch.h"

#include <gtest/gtest.h>

namespace toroid::train {
namespace {

SkipWatch stopped(int64_t most, int64_t before) {
  SkipWatch watch(most);
  watch.resume(7, before);
  for (int64_t step = 11; !watch.stops(); ++step) watch.see(step, true, {4 * step, 4 * step + 4});
  return watch;
}

TEST(SkipWatch, CountsInARowAndInAll) {
  SkipWatch watch(3);
  for (const bool skipped : {true, true, false, true, true}) watch.see(1, skipped, {0, 4});
  EXPECT_EQ(watch.total(), 4);
  EXPECT_EQ(watch.in_a_row(), 2);
  EXPECT_FALSE(watch.stops());
  watch.see(6, true, {0, 4});
  EXPECT_TRUE(watch.stops());
  SkipWatch never(0);
  for (int i = 0; i < 100; ++i) never.see(i, true, {0, 4});
  EXPECT_FALSE(never.stops());
}

TEST(SkipWatch, NamesStepsSequencesAndTheWayOn) {
  EXPECT_EQ(
      stopped(3, 0).reason(10, 44),
      "training stopped: 3 steps in a row were skipped (optim.skip.max_consecutive); steps 11 to 13 took the "
      "global sequences 44 to 55. The newest checkpoint is of step 10 and goes on at sequence 44; to leave "
      "them "
      "out from there, resume it with --set 'data.skip+={ first: 44 last: 56 }'");
}

TEST(SkipWatch, ACheckpointAmongTheSkippedStepsIsWhereTheRangeBegins) {
  const std::string text = stopped(3, 0).reason(12, 52);
  EXPECT_NE(text.find("is of step 12 and goes on at sequence 52"), std::string::npos) << text;
  EXPECT_NE(text.find("first: 52 last: 56"), std::string::npos) << text;
}

TEST(SkipWatch, WithoutACheckpointTheRunBeginsAgain) {
  const std::string text = stopped(3, 0).reason(-1, 0);
  EXPECT_NE(text.find("No checkpoint was saved"), std::string::npos) << text;
  EXPECT_NE(text.find("--again and --set 'data.skip+={ first: 44 last: 56 }'"), std::string::npos) << text;
}

// The step after the last of them was under way and is not one of them; those before this start count.
TEST(SkipWatch, ASteptakenAfterwardsIsNotAmongThem) {
  SkipWatch watch = stopped(3, 2);
  watch.see(12, false, {48, 52});
  const std::string text = watch.reason(10, 44);
  EXPECT_NE(text.find("3 steps in a row were skipped (optim.skip.max_consecutive); step 11 took"),
            std::string::npos)
      << text;
  EXPECT_NE(text.find("44 to 47"), std::string::npos) << text;
  SkipWatch longer = stopped(3, 2);
  longer.see(12, true, {48, 52});
  EXPECT_NE(longer.reason(10, 44).find("4 steps in a row were skipped"), std::string::npos);
  EXPECT_NE(longer.reason(10, 44).find("last: 52"), std::string::npos);
}

}  // namespace
}  // namespace toroid::train
