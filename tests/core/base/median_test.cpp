#include "core/base/median.h"

#include <gtest/gtest.h>

namespace toroid {
namespace {

TEST(Median, IsTheMiddleOrBetweenTheTwoInTheMiddle) {
  EXPECT_EQ(median({3}), 3);
  EXPECT_EQ(median({9, 1, 2}), 2);
  EXPECT_EQ(median({8, 1, 4, 2}), 3);
  EXPECT_THROW(median({}), InternalError);
}

}  // namespace
}  // namespace toroid
