// Proofs without a network: the plans of all ranks are played together over sets of contributions.
#include "parallel/schedule/schedule.h"

#include <gtest/gtest.h>

#include <bitset>
#include <cmath>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "parallel/schedule/links.h"
#include "tests/parallel/schedule/in_turns.h"
#include "tests/parallel/schedule/player.h"
#include "tests/parallel/schedule/shapes.h"

namespace toroid::test {
namespace {

using schedule::Algorithm;
using schedule::GroupShape;
using schedule::Move;
using schedule::Operation;
using schedule::Plan;

constexpr int kMostRanks = 256;
using Contributions = std::bitset<kMostRanks>;  // the ranks whose part is in a value
using Held = std::vector<std::vector<Contributions>>;

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}

Contributions of_rank(int64_t rank) {
  Contributions one;
  one.set(at(rank));
  return one;
}

// What went wrong, or "" where the operation is what it should be: every chunk arrives once, every
// contribution is summed once.
std::string fault(Algorithm algorithm, Operation operation, const GroupShape& shape, int root = 0) {
  const int size = shape.size();
  const Player<Contributions> player(algorithm, operation, shape, root);
  const int64_t chunks = player.chunks();
  const bool shared = operation != Operation::broadcast;
  if (shared && chunks % size != 0) return "ranks own different numbers of chunks";
  const int64_t per_rank = shared ? chunks / size : 1;
  const bool sums = operation == Operation::reduce_scatter || operation == Operation::all_reduce;

  Contributions all;
  for (int rank = 0; rank < size; ++rank) all.set(at(rank));
  Held held(at(size), std::vector<Contributions>(at(chunks)));
  Held received(at(operation == Operation::all_to_all ? size : 0), std::vector<Contributions>(at(chunks)));
  for (int rank = 0; rank < size; ++rank) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const bool own = operation == Operation::broadcast ? rank == root : chunk / per_rank == rank;
      // For an all_to_all chunk i of a rank is marked with both: the sender's bit, and its receiver is
      // checked by where it arrives.
      if (sums || own || operation == Operation::all_to_all) held[at(rank)][at(chunk)] = of_rank(rank);
    }
  }

  std::string failure;
  int64_t arrived = 0;  // chunks, at all ranks
  const auto receive = [&](int rank, const Move& move, int64_t chunk, const Contributions& value) {
    ++arrived;
    if (operation == Operation::all_to_all) {
      Contributions& place = received[at(rank)][at(chunk)];
      if (place.any()) failure = "a block arrives twice";
      if (move.combine) failure = "an all_to_all adds";
      place = value;
      return;
    }
    Contributions& place = held[at(rank)][at(chunk)];
    if (move.combine) {
      if (!sums) failure = "an operation without a sum adds";
      if ((place & value).any()) failure = "a contribution is summed twice";
      place |= value;
    } else if (operation == Operation::all_reduce) {
      if (value != all) failure = "an unfinished sum is handed on";
      if (place == all) failure = "a sum arrives twice";
      place = value;
    } else {
      if (operation == Operation::reduce_scatter) failure = "a sum is overwritten";
      if (value.none()) failure = "nothing is handed on";
      if (place.any()) failure = "a chunk arrives twice";
      place = value;
    }
  };
  try {
    player.play(held, operation != Operation::all_to_all, receive);
  } catch (const PlayFailed& error) {
    return error.what();
  }
  if (!failure.empty()) return failure;
  // (n - 1)/n of the array a rank and pass, and no more; on average where sums move along a line.
  const int64_t passes = operation == Operation::all_reduce ? 2 : 1;
  if (arrived != passes * (size - 1) * chunks) return std::to_string(arrived) + " chunks arrive";

  for (int rank = 0; rank < size; ++rank) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      const int64_t owner = chunk / per_rank;
      const Contributions& value = held[at(rank)][at(chunk)];
      bool right = true;
      if (operation == Operation::all_gather) right = value == of_rank(owner);
      if (operation == Operation::reduce_scatter) right = owner != rank || value == all;
      if (operation == Operation::all_reduce) right = value == all;
      if (operation == Operation::broadcast) right = value == of_rank(root);
      if (operation == Operation::all_to_all)
        right = owner == rank || received[at(rank)][at(chunk)] == of_rank(owner);
      if (!right) return "rank " + std::to_string(rank) + " ends without chunk " + std::to_string(chunk);
    }
  }
  return "";
}

class EveryAlgorithm : public ::testing::TestWithParam<Algorithm> {};
INSTANTIATE_TEST_SUITE_P(Schedule, EveryAlgorithm, ::testing::ValuesIn(all_algorithms()),
                         [](const auto& algorithm) { return std::string(name(algorithm.param)); });

TEST_P(EveryAlgorithm, is_right_on_every_shape) {
  for (const GroupShape& shape : all_shapes()) {
    for (const Operation operation : kOperations) {
      if (!serves(GetParam(), operation, shape)) continue;
      if (repeats_two_others(operation, shape)) continue;
      ASSERT_EQ(fault(GetParam(), operation, shape), "") << text_of(GetParam(), operation, shape);
    }
  }
}

TEST(Schedule, one_from_outside_is_one_like_the_others) {
  for (const GroupShape& shape : {GroupShape{1, 1}, GroupShape{1, 7}, GroupShape{3, 4}}) {
    for (const Operation operation :
         {Operation::all_gather, Operation::reduce_scatter, Operation::all_reduce}) {
      EXPECT_EQ(fault(in_turns(), operation, shape), "") << text_of(in_turns(), operation, shape);
    }
    EXPECT_FALSE(serves(in_turns(), Operation::broadcast, shape));
    EXPECT_FALSE(serves(in_turns(), Operation::all_to_all, shape));
  }
  // Rank 0 of a line sends to three others over its one link.
  EXPECT_EQ(most_messages(in_turns(), Operation::all_gather, {1, 4, true, false}), 3);
  EXPECT_DOUBLE_EQ(most_link_bytes(in_turns(), Operation::all_gather, {1, 4, true, false}, 1024), 1024);
}

// What `auto` takes, by size and shape.
TEST(Schedule, auto_takes_the_most_wanted) {
  constexpr int64_t kFew = 64 << 10;
  const auto taken = [](Operation operation, const GroupShape& shape, int64_t bytes, bool tree = false) {
    return std::string(name(automatic_algorithm(operation, shape, bytes, tree)));
  };
  EXPECT_EQ(taken(Operation::all_gather, {16, 16}, kFew + 1), "torus");
  EXPECT_EQ(taken(Operation::all_gather, {1, 16}, kFew + 1), "bidirectional_ring");
  EXPECT_EQ(taken(Operation::all_gather, {16, 16}, kFew), "halving_doubling");
  EXPECT_EQ(taken(Operation::all_reduce, {3, 5}, kFew), "direct");
  EXPECT_EQ(taken(Operation::all_reduce, {3, 6}, kFew), "torus") << "too many for one round";
  EXPECT_EQ(taken(Operation::all_reduce, {1, 2}, 1 << 30), "direct");
  EXPECT_EQ(taken(Operation::all_reduce, {1, 2}, 1 << 30, true), "halving_doubling");
  EXPECT_EQ(taken(Operation::all_gather, {4, 4}, 1 << 30, true), "torus") << "nothing is summed";
  EXPECT_EQ(taken(Operation::broadcast, {3, 6}, 1 << 30), "halving_doubling");
  EXPECT_EQ(taken(Operation::all_to_all, {3, 6}, 1 << 30), "direct");
  EXPECT_EQ(taken(Operation::all_gather, {4, 4, true, true, 4, true}, kFew + 1), "torus");
  EXPECT_EQ(taken(Operation::all_gather, {1, 1, true, true, 8, true}, kFew + 1), "bidirectional_ring");
  // Where a message takes as long as its links, neighbours pass small arrays on as well.
  GroupShape ring{1, 16}, square{4, 4}, small{1, 5}, pair{1, 2};
  for (GroupShape* shape : {&ring, &square, &small, &pair}) shape->neighbours_alone = true;
  EXPECT_EQ(taken(Operation::all_gather, ring, kFew), "bidirectional_ring");
  EXPECT_EQ(taken(Operation::all_reduce, square, kFew), "torus");
  EXPECT_EQ(taken(Operation::all_reduce, small, kFew), "bidirectional_ring");
  EXPECT_EQ(taken(Operation::all_reduce, pair, kFew), "direct");
  EXPECT_EQ(taken(Operation::all_reduce, ring, kFew, true), "halving_doubling") << "its order is given";
}

TEST(Schedule, broadcast_is_right_from_every_root) {
  for (const GroupShape& shape : {GroupShape{1, 13}, GroupShape{4, 4}, GroupShape{3, 5}, GroupShape{2, 1}}) {
    for (const Algorithm algorithm : {Algorithm::halving_doubling, Algorithm::direct}) {
      for (int root = 0; root < shape.size(); ++root) {
        ASSERT_EQ(fault(algorithm, Operation::broadcast, shape, root), "")
            << text_of(algorithm, Operation::broadcast, shape) << " from " << root;
      }
    }
  }
}

// ((0+1)+(2+3))+((4+5)+(6+7))
float tree_sum(const std::vector<float>& values, size_t first, size_t count) {
  if (count == 1) return values[first];
  return tree_sum(values, first, count / 2) + tree_sum(values, first + count / 2, count / 2);
}

// By rank and chunk; the values differ so much in size that another order would be another sum.
std::vector<std::vector<float>> summands(int size, int64_t chunks) {
  std::vector<std::vector<float>> held(at(size), std::vector<float>(at(chunks)));
  uint64_t state = 1;
  for (std::vector<float>& of_one : held) {
    for (float& value : of_one) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<float>(static_cast<int64_t>(state)) *
              std::ldexp(1.0f, -static_cast<int>(state >> 20 & 63));
    }
  }
  return held;
}

TEST(Schedule, halving_doubling_sums_as_the_balanced_tree_over_ranks_in_order) {
  for (const GroupShape& shape : {GroupShape{1, 2}, GroupShape{2, 2}, GroupShape{8, 1}, GroupShape{4, 4},
                                  GroupShape{8, 16}, GroupShape{16, 16}}) {
    const int size = shape.size();
    for (const Operation operation : {Operation::reduce_scatter, Operation::all_reduce}) {
      const Player<float> player(Algorithm::halving_doubling, operation, shape);
      std::vector<std::vector<float>> held = summands(size, player.chunks());
      std::vector<float> expected(at(player.chunks()));
      for (int64_t chunk = 0; chunk < player.chunks(); ++chunk) {
        std::vector<float> column;
        for (const std::vector<float>& of_one : held) column.push_back(of_one[at(chunk)]);
        expected[at(chunk)] = tree_sum(column, 0, column.size());
      }
      player.play(held, true, [&](int rank, const Move& move, int64_t chunk, float value) {
        float& place = held[at(rank)][at(chunk)];
        place = move.combine ? place + value : value;
      });
      for (int rank = 0; rank < size; ++rank) {
        for (int64_t chunk = 0; chunk < player.chunks(); ++chunk) {
          if (operation == Operation::reduce_scatter && chunk != rank) continue;
          ASSERT_EQ(held[at(rank)][at(chunk)], expected[at(chunk)]) << "rank " << rank << " chunk " << chunk;
        }
      }
    }
  }
}

TEST(Schedule, sums_in_order_are_those_of_the_ranks) {
  for (const int size : {2, 3, 5, 16}) {
    std::vector<Plan> plans;
    for (int rank = 0; rank < size; ++rank) plans.push_back(plan_in_order(Operation::all_reduce, size, rank));
    const Player<float> player(plans);
    const auto before = summands(size, player.chunks());
    auto held = before;
    // What precedes a rank's own summand, so far; the rank's chunk is its own number.
    std::vector<std::vector<float>> preceding(at(size));
    player.play(held, true, [&](int rank, const Move& move, int64_t chunk, float value) {
      float& place = held[at(rank)][at(chunk)];
      if (!move.combine) {
        place = value;
      } else if (move.precedes) {
        EXPECT_EQ(move.peer, static_cast<int>(preceding[at(rank)].size())) << "of rank " << rank;
        preceding[at(rank)].push_back(value);
        if (move.peer + 1 < rank) return;
        float sum = preceding[at(rank)][0];
        for (size_t i = 1; i < preceding[at(rank)].size(); ++i) sum += preceding[at(rank)][i];
        place = sum + place;
      } else {
        place += value;
      }
    });
    for (int64_t chunk = 0; chunk < size; ++chunk) {
      float sum = before[0][at(chunk)];
      for (int rank = 1; rank < size; ++rank) sum += before[at(rank)][at(chunk)];
      for (int rank = 0; rank < size; ++rank) ASSERT_EQ(held[at(rank)][at(chunk)], sum) << rank;
    }
  }
}

TEST(Schedule, rounds_are_few) {
  const GroupShape square{16, 16};
  const auto rounds = [&](Algorithm algorithm, Operation operation) {
    return plan(algorithm, operation, square, 0).rounds;
  };
  EXPECT_EQ(rounds(Algorithm::ring, Operation::all_gather), 255);
  EXPECT_EQ(rounds(Algorithm::torus, Operation::all_gather), 16);
  EXPECT_EQ(rounds(Algorithm::torus, Operation::all_reduce), 32);
  EXPECT_EQ(plan(Algorithm::torus, Operation::all_gather, {4, 8, true, true, 16, true}, 0).rounds, 3 * 8);
  EXPECT_EQ(rounds(Algorithm::halving_doubling, Operation::all_gather), 8);
  EXPECT_EQ(rounds(Algorithm::halving_doubling, Operation::broadcast), 8);
  EXPECT_EQ(rounds(Algorithm::direct, Operation::all_reduce), 2);
}

TEST(Schedule, what_an_algorithm_does_not_serve_is_refused) {
  const auto refusal = [](Algorithm algorithm, Operation operation, const GroupShape& shape) -> std::string {
    try {
      plan(algorithm, operation, shape, 0);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal(Algorithm::halving_doubling, Operation::all_gather, {3, 2}),
            "the algorithm halving_doubling has no all_gather for 3 x 2 ranks");
  EXPECT_EQ(refusal(Algorithm::torus, Operation::broadcast, {2, 2}),
            "the algorithm torus has no broadcast for 2 x 2 ranks");
  EXPECT_EQ(refusal(Algorithm::ring, Operation::all_to_all, {2, 2}),
            "the algorithm ring has no all_to_all for 2 x 2 ranks");
  EXPECT_EQ(refusal(Algorithm::direct, Operation::all_to_all, {3, 2}), "");
}

}  // namespace
}  // namespace toroid::test
