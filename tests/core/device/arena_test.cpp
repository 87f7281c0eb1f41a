#include "core/device/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/base/error.h"

namespace toroid::testing {
namespace {

Tickets tickets(uint64_t compute, uint64_t gather = 0) {
  Tickets out{};
  out[static_cast<size_t>(Queue::compute)] = compute;
  out[static_cast<size_t>(Queue::gather)] = gather;
  return out;
}

TEST(DeviceArena, rounds_up_and_counts) {
  DeviceArena arena(1000, 64);
  EXPECT_EQ(arena.bytes(), 960);  // what is beyond the last whole unit is not used
  const auto none = arena.allocate(0, "empty"), one = arena.allocate(1, "one"),
             odd = arena.allocate(65, "odd");
  EXPECT_EQ(none.offset, 0);
  EXPECT_EQ(one.offset, 64);
  EXPECT_EQ(odd.offset, 128);
  EXPECT_EQ(odd.bytes, 128);
  EXPECT_EQ(arena.bytes_used(), 256);
  EXPECT_EQ(arena.largest_free(), 960 - 256);
  EXPECT_EQ(one.tickets, Tickets{}) << "nobody has used that memory";
}

TEST(DeviceArena, takes_the_smallest_piece_that_is_large_enough_and_of_those_the_first) {
  DeviceArena arena(10 * 64, 64);
  std::vector<int64_t> at;
  for (const int64_t units : {2, 1, 1, 1, 2, 1}) at.push_back(arena.allocate(units * 64, "a").offset);
  arena.free(at[0], {});  // free: 2 units at 0, 1 at 3, 2 at 5, and the 2 that are left at 8
  arena.free(at[2], {});
  arena.free(at[4], {});
  EXPECT_EQ(arena.allocate(64, "b").offset, 3 * 64);
  EXPECT_EQ(arena.allocate(128, "b").offset, 0);
  EXPECT_EQ(arena.allocate(128, "b").offset, 5 * 64);
  EXPECT_EQ(arena.allocate(64, "b").offset, 8 * 64);
}

TEST(DeviceArena, joins_what_is_free_side_by_side) {
  DeviceArena arena(4 * 64, 64);
  std::vector<int64_t> at;
  for (int i = 0; i < 4; ++i) at.push_back(arena.allocate(64, "a").offset);
  EXPECT_EQ(arena.largest_free(), 0);
  arena.free(at[0], {});
  arena.free(at[2], {});
  EXPECT_EQ(arena.largest_free(), 64);
  arena.free(at[1], {});  // between two
  EXPECT_EQ(arena.largest_free(), 3 * 64);
  arena.free(at[3], {});  // after one
  EXPECT_EQ(arena.largest_free(), 4 * 64);
  EXPECT_EQ(arena.allocate(4 * 64, "b").offset, 0);
}

TEST(DeviceArena, brings_the_tickets_of_the_last_users_to_the_next_one_alone) {
  DeviceArena arena(4 * 64, 64);
  const auto a = arena.allocate(64, "a"), b = arena.allocate(64, "b"), c = arena.allocate(128, "c");
  arena.free(a.offset, tickets(7, 2));
  arena.free(b.offset, tickets(5, 9));
  arena.free(c.offset, tickets(11));
  // One free piece, whose parts have different users: a part waits for its own.
  const auto first = arena.allocate(64, "d");
  EXPECT_EQ(first.offset, 0);
  EXPECT_EQ(first.tickets, tickets(7, 2));
  // Across two of them: for both, queue by queue; the rest of the second stays as it was.
  const auto across = arena.allocate(128, "e");
  EXPECT_EQ(across.offset, 64);
  EXPECT_EQ(across.tickets, tickets(11, 9));
  EXPECT_EQ(arena.allocate(64, "f").tickets, tickets(11));
  // Given back without being used again: whoever had it before still counts only if the giver says so.
  arena.free(first.offset, {});
  EXPECT_EQ(arena.allocate(64, "g").tickets, Tickets{});
}

TEST(DeviceArena, names_the_largest_holders_where_memory_is_short) {
  DeviceArena arena(100 << 20, 256);
  (void)arena.allocate(40 << 20, "weights");
  (void)arena.allocate(10 << 20, "batch");
  (void)arena.allocate(8 << 20, "gradients");
  (void)arena.allocate(12 << 20, "gradients");
  (void)arena.allocate(1 << 20, "transfer");
  try {
    (void)arena.allocate(60 << 20, "activations");
    FAIL() << "there are 29 MiB";
  } catch (const SystemError& error) {
    const std::string said = error.what();
    const auto at = [&](const char* text) { return said.find(text); };
    EXPECT_NE(at("activations"), std::string::npos) << said;
    ASSERT_NE(at("weights with"), std::string::npos) << said;
    EXPECT_LT(at("weights with"), at("gradients with")) << said;
    EXPECT_LT(at("gradients with"), at("batch with")) << said;
    EXPECT_EQ(at("transfer"), std::string::npos) << said;
  }
  // Nothing has changed, also not by a size that no arithmetic may overflow on.
  EXPECT_THROW((void)arena.allocate(INT64_MAX, "all"), SystemError);
  EXPECT_EQ(arena.bytes_used(), 71 << 20);
  EXPECT_NO_THROW((void)arena.allocate(29 << 20, "activations"));
}

TEST(DeviceArena, refuses_to_free_what_it_has_not_given) {
  DeviceArena arena(1024, 64);
  const int64_t offset = arena.allocate(128, "a").offset;
  EXPECT_THROW(arena.free(offset + 64, {}), InternalError);
  arena.free(offset, {});
  EXPECT_THROW(arena.free(offset, {}), InternalError);
}

// Every unit by itself.
class NaiveArena {
 public:
  explicit NaiveArena(size_t units) : taken_(units, false), tickets_(units) {}
  std::optional<DeviceArena::Piece> allocate(size_t units) {
    size_t best = 0, best_size = taken_.size() + 1;
    for (size_t at = 0; at < taken_.size();) {
      size_t end = at;
      while (end < taken_.size() && !taken_[end]) ++end;
      if (end - at >= units && end - at < best_size) best = at, best_size = end - at;
      at = end + 1;
    }
    if (best_size > taken_.size()) return std::nullopt;
    DeviceArena::Piece out{static_cast<int64_t>(best), static_cast<int64_t>(units), {}};
    for (size_t i = best; i < best + units; ++i) {
      taken_[i] = true;
      for (size_t q = 0; q < kQueues; ++q) out.tickets[q] = std::max(out.tickets[q], tickets_[i][q]);
    }
    return out;
  }
  void free(const DeviceArena::Piece& piece, const Tickets& last_use) {
    for (int64_t i = piece.offset; i < piece.offset + piece.bytes; ++i) {
      taken_[static_cast<size_t>(i)] = false;
      tickets_[static_cast<size_t>(i)] = last_use;
    }
  }

 private:
  std::vector<bool> taken_;
  std::vector<Tickets> tickets_;
};

// A random program, from its seed alone; the offsets that it was given.
std::vector<int64_t> play(uint64_t seed) {
  constexpr size_t kUnits = 200;
  std::mt19937_64 random(seed);
  const auto below = [&](size_t most) { return static_cast<size_t>(random() % most); };
  DeviceArena arena(kUnits * 64, 64);
  NaiveArena naive(kUnits);
  std::vector<DeviceArena::Piece> held;
  std::vector<int64_t> offsets;
  uint64_t now = 0;
  for (int i = 0; i < 2000; ++i) {
    if (below(2) == 0 && !held.empty()) {
      const size_t which = below(held.size());
      Tickets used{};
      for (uint64_t& ticket : used) ticket = below(3) == 0 ? ++now : 0;
      arena.free(64 * held[which].offset, used);
      naive.free(held[which], used);
      held.erase(held.begin() + static_cast<ptrdiff_t>(which));
      continue;
    }
    const size_t units = 1 + below(below(4) == 0 ? 60 : 8);
    const auto expected = naive.allocate(units);
    if (!expected) {
      EXPECT_THROW((void)arena.allocate(static_cast<int64_t>(units) * 64, "h"), SystemError);
      continue;
    }
    const auto got = arena.allocate(static_cast<int64_t>(units) * 64 - static_cast<int64_t>(below(64)), "h");
    EXPECT_EQ(got.offset, 64 * expected->offset) << "seed " << seed << ", call " << i;
    EXPECT_EQ(got.tickets, expected->tickets) << "seed " << seed << ", call " << i;
    held.push_back(*expected);
    offsets.push_back(got.offset);
  }
  return offsets;
}

TEST(DeviceArena, does_what_a_plain_model_does_whatever_the_program) {
  for (uint64_t seed = 1; seed <= 30 && !::testing::Test::HasFailure(); ++seed) {
    EXPECT_EQ(play(seed), play(seed)) << "offsets follow from the order of calls";
  }
}

}  // namespace
}  // namespace toroid::testing
