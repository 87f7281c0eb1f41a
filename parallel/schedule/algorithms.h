// The algorithms behind plan(), one file each. An algorithm is written as its all_gather alone: played
// backwards, with every send a receive that is added, it is the reduce_scatter, since the way in which a
// chunk spreads from its owner is a tree, and the same tree turned round sums. All functions give one rank's
// moves.
#pragma once

#include <functional>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace toroid::schedule {

// ring.cpp. `step` is 1 or -1: the direction in which chunks travel along the order of the ring.
Plan gather_ring(const GroupShape& shape, int rank, int step);
Plan gather_bidirectional_ring(const GroupShape& shape, int rank);
// torus.cpp
Plan gather_torus(const GroupShape& shape, int rank);
// halving_doubling.cpp. `size` is a power of two for the gather.
Plan gather_doubling(int size, int rank);
Plan broadcast_doubling(int size, int rank, int root);
// direct.cpp
Plan gather_direct(int size, int rank);
Plan broadcast_direct(int size, int rank, int root);
Plan all_to_all_direct(int size, int rank);
// Makes a rank's sums those over all ranks in order, its own summand in its place among them.
void sum_in_order(int rank, std::vector<Move>& moves);

// The ranks in an order in which neighbours are neighbours on the torus.
struct RingOrder {
  std::vector<int> ranks;
  bool closed = false;  // the last is a neighbour of the first as well
};
RingOrder ring_order(const GroupShape& shape);

// Two ranks have one link between them, which a wrap does not double.
inline bool is_ring(int size, bool wrap) {
  return wrap && size > 2;
}

// Chunks as in Move.
struct Chunks {
  int64_t first = 0, count = 1, blocks = 1, stride = 0;
};
enum class Part : uint8_t { forward, backward, whole };

// Gathers along one ring or line of ranks what each of them holds. Everything goes both ways: on a line to
// both ends, on a ring until it meets itself. Where that is at a rank, the opposite one of an even number,
// the forward part comes to it one way round and the backward part the other.
struct AxisGather {
  int first_round = 0;
  int size = 1;
  bool ring = false;
  int position = 0;                                       // of this rank
  std::function<int(int position)> peer;                  // rank at a position
  std::function<Chunks(int position, Part part)> chunks;  // held at the start at a position
};
void add_axis_gather(const AxisGather& axis, std::vector<Move>& moves);
int axis_rounds(int size, bool ring);

Move send_of(int round, int peer, const Chunks& chunks);
Move receive_of(int round, int peer, const Chunks& chunks);
// The order that Plan promises: by round, and within a round as they were added.
void sort_by_round(std::vector<Move>& moves);

}  // namespace toroid::schedule
