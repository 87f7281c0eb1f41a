// What an algorithm declares: how it goes, what it puts on links, and when `auto` takes it. Each is one file,
// which ends in its description.
//
// An algorithm is written as its all_gather alone: played backwards, with every send a receive that is added,
// it is the reduce_scatter, since the way in which a chunk spreads from its owner is a tree, and the same
// tree turned round sums. An all_reduce is both. All functions give one rank's moves.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "parallel/schedule/schedule.h"

namespace toroid::schedule {

// A collective for which `auto` looks for an algorithm.
struct Collective {
  Operation operation = Operation::all_reduce;
  GroupShape shape;
  int64_t bytes = 0;           // of the whole array
  bool deterministic = false;  // sums are balanced binary trees over the ranks in order
};

// How much an algorithm is wanted for a collective, which it then serves. The most wanted is taken; of those
// that are wanted alike, the first of all_algorithms().
enum class Wanted : uint8_t {
  not_at_all,
  for_bandwidth,  // of large arrays: the fewest bytes over the busiest link
  for_one_round,  // of small arrays: rounds are what counts, and few ranks can take a single one
  for_few_rounds,
  for_a_pair,     // two ranks, between whom there is nothing to choose
  for_its_order,  // the sums that deterministic mode asks for
};

// Below, the number of rounds is what counts.
inline constexpr int64_t kFewBytes = int64_t{64} << 10;

// What a collective puts on the links of a torus.
struct LinkLoad {
  int messages = 0;  // the most on one link in one round
  double bytes = 0;  // over the busiest link, in all rounds
};

struct AlgorithmDescription {
  std::string_view name;  // in tables of measured collectives and in records

  // The all_gather. `backwards`: as it is played backwards for a reduce_scatter, in which chunks then travel
  // forward again.
  Plan (*gather)(const GroupShape& shape, int rank, bool backwards) = nullptr;
  // The shapes on which it gathers and sums; nullptr: all.
  bool (*gathers_on)(const GroupShape& shape) = nullptr;
  // On all shapes; nullptr: it has none.
  Plan (*broadcast)(const GroupShape& shape, int rank, int root) = nullptr;
  Plan (*all_to_all)(const GroupShape& shape, int rank) = nullptr;

  // Of an operation that it serves, over two ranks or more, on an array of `bytes`; a broadcast is from rank
  // 0. Where there is no formula (nothing, or no function), traffic is counted (links.h).
  std::optional<LinkLoad> (*load)(Operation operation, const GroupShape& shape, double bytes) = nullptr;
  // The shapes on which all ranks do the same at the same time, each with its neighbours, so that one of them
  // can stand for all; nullptr: none.
  bool (*alike)(const GroupShape& shape) = nullptr;
  // Messages go to neighbours, who hand on what comes, so that hops and bytes can be under way together. A
  // chunk that goes along several dimensions takes each in one phase, and a phase has a part of the array
  // under way along each.
  bool between_neighbours = false;
  // A rank has messages for all others under way in one round, so that each is cut finely.
  bool peers_at_once = false;
  Wanted (*wanted)(const Collective& collective) = nullptr;  // nullptr: only where it is asked for
};

inline bool sums(Operation operation) {
  return operation == Operation::reduce_scatter || operation == Operation::all_reduce;
}
inline bool gathers_or_sums(Operation operation) {
  return operation == Operation::all_gather || sums(operation);
}

}  // namespace toroid::schedule
