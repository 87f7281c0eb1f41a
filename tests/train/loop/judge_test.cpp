#include "train/loop/judge.h"

#include <gtest/gtest.h>

namespace toroid::train {
namespace {

TEST(Judge, FindsNothingWhereAllAreEqual) {
  const Computed results[] = {{0, 7}, {1, 7}, {0, 7}};
  EXPECT_FALSE(judge(results));
}

TEST(Judge, APassingFaultDoesNotComeAgain) {
  const Computed by_owner[] = {{0, 8}, {1, 7}, {0, 7}, {1, 7}};
  auto verdict = judge(by_owner);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->ranks, std::vector<int>{0});
  EXPECT_EQ(verdict->lasting, false);
  const Computed alone[] = {{0, 7}, {0, 8}, {0, 7}, {0, 7}};
  verdict = judge(alone);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->ranks, std::vector<int>{0});
  EXPECT_EQ(verdict->lasting, false);
}

TEST(Judge, ALastingOneDoes) {
  const Computed results[] = {{0, 7}, {1, 8}, {0, 7}, {1, 9}, {2, 7}};
  const auto verdict = judge(results);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->ranks, std::vector<int>{1});
  EXPECT_EQ(verdict->lasting, true);
}

TEST(Judge, AThirdRankDecidesBetweenTwo) {
  const Computed results[] = {{0, 8}, {1, 7}, {0, 8}, {1, 7}, {2, 7}};
  const auto verdict = judge(results);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->ranks, std::vector<int>{0});
  EXPECT_EQ(verdict->lasting, true);
}

TEST(Judge, TwoThatStandByTheirsAreBothNamed) {
  const Computed results[] = {{0, 8}, {1, 7}, {0, 8}, {1, 7}};
  auto verdict = judge(results);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->ranks, (std::vector<int>{0, 1}));
  EXPECT_EQ(verdict->lasting, true);
  const Computed twins[] = {{0, 8}, {4, 7}};
  verdict = judge(twins);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->ranks, (std::vector<int>{0, 4}));
  EXPECT_FALSE(verdict->lasting);
}

TEST(Judge, WhoeverContradictsItselfIsWrong) {
  const Computed results[] = {{0, 8}, {1, 7}, {0, 9}, {1, 7}, {0, 8}};
  const auto verdict = judge(results);
  ASSERT_TRUE(verdict);
  EXPECT_EQ(verdict->ranks, std::vector<int>{0});
}

}  // namespace
}  // namespace toroid::train
