// Every rank exchanges with every other at once: one round, n - 1 messages a rank. Ranks begin with their
// next neighbour, so that not all send to the same one first. Each sum is made by its owner, in the order of
// the ranks that come after it, or, where it is asked for, in the order of all of them.
#include <algorithm>

#include "parallel/schedule/algorithms.h"

namespace toroid::schedule {

Plan gather_direct(int size, int rank) {
  Plan plan{size, size > 1 ? 1 : 0, {}};
  for (int i = 1; i < size; ++i) {
    const int peer = (rank + i) % size;
    plan.moves.push_back(send_of(0, peer, {rank}));
    plan.moves.push_back(receive_of(0, peer, {peer}));
  }
  return plan;
}

void sum_in_order(int rank, std::vector<Move>& moves) {
  // Sends stay as they are, before the receives.
  const auto order = [](const Move& move) { return move.receive ? move.peer : -1; };
  std::stable_sort(moves.begin(), moves.end(),
                   [&](const Move& a, const Move& b) { return order(a) < order(b); });
  for (Move& move : moves) move.precedes = move.receive && move.peer < rank;
}

Plan broadcast_direct(int size, int rank, int root) {
  Plan plan{1, size > 1 ? 1 : 0, {}};
  if (rank != root) {
    plan.moves.push_back(receive_of(0, root, {}));
  } else {
    for (int i = 1; i < size; ++i) plan.moves.push_back(send_of(0, (root + i) % size, {}));
  }
  return plan;
}

Plan all_to_all_direct(int size, int rank) {
  Plan plan{size, size > 1 ? 1 : 0, {}};
  for (int i = 1; i < size; ++i) {
    const int to = (rank + i) % size;
    const int from = (rank - i + size) % size;
    plan.moves.push_back(send_of(0, to, {to}));
    plan.moves.push_back(receive_of(0, from, {from}));
  }
  return plan;
}

}  // namespace toroid::schedule
