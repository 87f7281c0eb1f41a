// An algorithm from outside, in a file of its own, as one would be added: rank after rank sends its share to
// all others. Nothing else of the program knows of it.
#pragma once

#include "parallel/schedule/algorithm.h"

namespace toroid::test {

inline schedule::Plan gather_in_turns(const schedule::GroupShape& shape, int rank, bool) {
  const int size = shape.size();
  schedule::Plan plan{size, size, {}};
  const auto add = [&plan](int round, int peer, bool receive) {
    schedule::Move move;
    move.round = round;
    move.peer = peer;
    move.receive = receive;
    move.first = round;
    move.count = 1;
    plan.moves.push_back(move);
  };
  for (int turn = 0; turn < size; ++turn) {
    for (int peer = 0; peer < size; ++peer) {
      if (turn == rank && peer != rank) add(turn, peer, false);
    }
    if (turn != rank) add(turn, turn, true);
  }
  return plan;
}

// Traffic is counted: it has no formula.
inline constexpr schedule::AlgorithmDescription kInTurns{.name = "in_turns", .gather = gather_in_turns};

inline schedule::Algorithm in_turns() {
  return schedule::Algorithm(kInTurns);
}

}  // namespace toroid::test
