#include "core/base/checksum.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace toroid {
namespace {

std::vector<std::byte> random_bytes(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> out(count);
  for (std::byte& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

TEST(Checksum, adds_up_over_runs_of_whole_words) {
  const auto bytes = random_bytes(1003, 1);
  const std::span all(bytes);
  for (const size_t cut : {size_t{0}, size_t{4}, size_t{500}, size_t{1000}}) {
    RunningChecksum running;
    running.add(checksum(all.first(cut)), static_cast<int64_t>(cut));
    running.add(checksum(all.subspan(cut)), static_cast<int64_t>(all.size() - cut));
    EXPECT_EQ(running.total(), checksum(all)) << cut;
  }
}

TEST(Checksum, finds_every_flipped_bit_and_says_which) {
  auto bytes = random_bytes(4 * 64, 2);
  const Checksum before = checksum(bytes);
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    const auto flip = static_cast<std::byte>(1u << (bit % 8));
    bytes[bit / 8] ^= flip;
    const auto found = changed_word(before, checksum(bytes), 64);
    bytes[bit / 8] ^= flip;
    ASSERT_TRUE(found) << bit;
    EXPECT_EQ(found->word, static_cast<int64_t>(bit / 32));
    EXPECT_EQ(found->bit, static_cast<int>(bit % 32));
  }
}

TEST(Checksum, two_words_never_hide_each_other) {
  auto bytes = random_bytes(4 * 512, 3);
  const Checksum before = checksum(bytes);
  std::mt19937_64 random(4);
  for (int trial = 0; trial < 2000; ++trial) {
    auto changed = bytes;
    // The same bit of two words: where one rises and the other falls, the plain sum does not tell.
    const size_t first = random() % 512, second = random() % 512;
    if (first == second) continue;
    const auto flip = static_cast<std::byte>(1u << (random() % 8));
    const size_t byte = random() % 4;
    changed[4 * first + byte] ^= flip;
    changed[4 * second + byte] ^= flip;
    EXPECT_NE(checksum(changed), before);
  }
}

}  // namespace
}  // namespace toroid
