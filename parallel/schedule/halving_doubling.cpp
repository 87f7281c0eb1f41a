// Recursive halving and doubling. Backwards, as a reduce_scatter over 8 ranks, rank 0 in round
//
//   0   exchanges with rank 1: keeps chunks 0 2 4 6, which are now sums 0+1
//   1   exchanges with rank 2: keeps chunks 0 4,     which are now sums (0+1)+(2+3)
//   2   exchanges with rank 4: keeps chunk 0,        ((0+1)+(2+3))+((4+5)+(6+7))
//
// so that every chunk is summed as the balanced binary tree over the ranks in order, whoever owns it: the
// order of deterministic mode. log2(n) rounds, (n - 1)/n of the array sent by each rank.
#include "parallel/schedule/algorithms.h"

namespace toroid::schedule {

Plan gather_doubling(int size, int rank) {
  Plan plan{size, 0, {}};
  for (int distance = size / 2; distance >= 1; distance /= 2) {
    const int peer = rank ^ distance;
    // Chunks whose number agrees with a rank's in all bits up to that of the distance.
    const auto held = [&](int of) {
      return Chunks{of % (2 * distance), 1, size / (2 * distance), 2 * distance};
    };
    plan.moves.push_back(send_of(plan.rounds, peer, held(rank)));
    plan.moves.push_back(receive_of(plan.rounds, peer, held(peer)));
    ++plan.rounds;
  }
  return plan;
}

Plan broadcast_doubling(int size, int rank, int root) {
  Plan plan{1, 0, {}};
  const int place = (rank - root + size) % size;  // counted from the root
  for (int distance = 1; distance < size; distance *= 2, ++plan.rounds) {
    if (place < distance && place + distance < size) {
      plan.moves.push_back(send_of(plan.rounds, (rank + distance) % size, {}));
    } else if (place >= distance && place < 2 * distance) {
      plan.moves.push_back(receive_of(plan.rounds, (rank - distance + size) % size, {}));
    }
  }
  return plan;
}

}  // namespace toroid::schedule
