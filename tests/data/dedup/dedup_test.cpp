#include "data/dedup/dedup.h"

#include <gtest/gtest.h>

#include <string>

namespace toroid {
namespace {

TEST(Dedup, TheFirstOfEqualTextsIsKept) {
  ExactDedup seen;
  EXPECT_TRUE(seen.insert(content_hash("a")));
  EXPECT_TRUE(seen.insert(content_hash("b")));
  EXPECT_FALSE(seen.insert(content_hash("a")));
  EXPECT_TRUE(seen.insert(content_hash("")));
  EXPECT_TRUE(seen.insert(content_hash("a ")));
  EXPECT_EQ(seen.size(), 4);
}

TEST(Dedup, AHashIsTheSameOnEveryMachine) {
  // xxhsum -H2 of the same bytes.
  EXPECT_EQ(hex(content_hash("")), "99aa06d3014798d86001c324468d497f");
}

}  // namespace
}  // namespace toroid
