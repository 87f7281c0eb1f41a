// Deadlines that are learned from what collectives have waited.
#include "parallel/comm/watch/watch.h"

#include <gtest/gtest.h>

namespace toroid {
namespace {

class LearnedDeadline : public ::testing::Test {
 protected:
  static constexpr Seconds kCeiling{600};
  Watch::Call call(Phase phase) {
    info_.phase = phase;
    return {&group_, 1, &info_};
  }
  void wait(Phase phase, uint64_t calls, Seconds time) {
    for (uint64_t i = 0; i < calls; ++i) watch_.waited(call(phase), time);
  }
  GroupMembers group_;
  CollectiveInfo info_;
  Watch watch_{nullptr, 0, 0, kCeiling};
};

TEST_F(LearnedDeadline, is_a_multiple_of_the_longest_wait_of_a_phase) {
  watch_.learn(Seconds(1));
  wait(Phase::forward, Watch::kLearnedCalls - 1, Seconds(0.2));
  EXPECT_EQ(watch_.deadline(call(Phase::forward)), kCeiling);
  wait(Phase::forward, 1, Seconds(0.1));
  EXPECT_DOUBLE_EQ(watch_.deadline(call(Phase::forward)).count(), 4);
  EXPECT_EQ(watch_.deadline(call(Phase::backward)), kCeiling);
  wait(Phase::forward, 1, Seconds(2));
  EXPECT_DOUBLE_EQ(watch_.deadline(call(Phase::forward)).count(), 40);
  EXPECT_EQ(watch_.deadline(), kCeiling);
}

TEST_F(LearnedDeadline, is_between_the_floor_and_the_ceiling) {
  watch_.learn(Seconds(30));
  wait(Phase::optimizer, Watch::kLearnedCalls, Seconds(0.001));
  EXPECT_EQ(watch_.deadline(call(Phase::optimizer)), Seconds(30));
  wait(Phase::optimizer, 1, Seconds(100));
  EXPECT_EQ(watch_.deadline(call(Phase::optimizer)), kCeiling);
  watch_.learn(Seconds(900));
  EXPECT_EQ(watch_.deadline(call(Phase::optimizer)), kCeiling);
}

TEST_F(LearnedDeadline, is_not_of_what_is_beside_the_steps_nor_before_it_is_asked_for) {
  wait(Phase::forward, 2 * Watch::kLearnedCalls, Seconds(0.001));
  EXPECT_EQ(watch_.deadline(call(Phase::forward)), kCeiling);
  watch_.learn(Seconds(1));
  wait(Phase::setup, 2 * Watch::kLearnedCalls, Seconds(0.001));
  EXPECT_EQ(watch_.deadline(call(Phase::setup)), kCeiling);
}

}  // namespace
}  // namespace toroid
