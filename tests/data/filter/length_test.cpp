// Bounds of length.
#include <gtest/gtest.h>

#include "tests/data/filter/filtering.h"

namespace toroid {
namespace {

TEST(Length, BoundsAreIncluded) {
  EXPECT_EQ(why_dropped("length { minimum_bytes: 3 }", "ab"), "too short");
  EXPECT_EQ(why_dropped("length { minimum_bytes: 3 maximum_bytes: 3 }", "abc"), "");
  EXPECT_EQ(why_dropped("length { maximum_bytes: 3 }", "abcd"), "too long");
  EXPECT_EQ(why_dropped("length { maximum_bytes: 3 }", ""), "");
}

TEST(Length, AWordIsWhatStandsBetweenWhiteSpace) {
  const std::string three = " one\u3000two\n\tthree\u00a0";
  EXPECT_EQ(why_dropped("length { minimum_words: 4 }", three), "too few words");
  EXPECT_EQ(why_dropped("length { minimum_words: 3 maximum_words: 3 }", three), "");
  EXPECT_EQ(why_dropped("length { maximum_words: 2 }", three), "too many words");
  EXPECT_EQ(why_dropped("length { minimum_words: 1 }", " \n"), "too few words");
  EXPECT_EQ(why_dropped("length { minimum_words: 2 }", "broken \xE9\xFF bytes"), "");
}

TEST(Length, BoundsThatCannotBeMeantAreRefused) {
  EXPECT_EQ(why_not("length {}"), "filter.length has no bound; set one, such as minimum_bytes: 200");
  EXPECT_EQ(why_not("length { minimum_bytes: 9 maximum_bytes: 8 }"),
            "filter.length.maximum_bytes is 8, below minimum_bytes, which is 9: no document would be kept");
  EXPECT_NE(why_not("length { minimum_words: -1 }").find("filter.length.minimum_words"), std::string::npos);
  EXPECT_NE(why_not("length { maximum_words: 9223372036854775807 }").find("filter.length.maximum_words"),
            std::string::npos);
}

}  // namespace
}  // namespace toroid
