#include "core/base/round_up.h"

#include <gtest/gtest.h>

namespace toroid {
namespace {

TEST(RoundUp, ReachesTheValueAndNoMultipleMore) {
  EXPECT_EQ(divide_up(0, 8), 0);
  EXPECT_EQ(divide_up(1, 8), 1);
  EXPECT_EQ(divide_up(8, 8), 1);
  EXPECT_EQ(divide_up(9, 8), 2);
  EXPECT_EQ(round_up(9, 8), 16);
  EXPECT_EQ(round_up((int64_t{1} << 40) + 1, 4096), (int64_t{1} << 40) + 4096);
}

}  // namespace
}  // namespace toroid
