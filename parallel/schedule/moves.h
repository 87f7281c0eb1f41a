// What the algorithms make their plans of: messages, walks of neighbours, gathers along one dimension.
#pragma once

#include <functional>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace toroid::schedule {

// The ranks in an order in which neighbours are neighbours on the torus.
struct RingOrder {
  std::vector<int> ranks;
  bool closed = false;  // the last is a neighbour of the first as well
  int at(int position) const { return ranks[static_cast<size_t>(position)]; }
  int position_of(int rank) const;
};
RingOrder ring_order(const GroupShape& shape);

// Two ranks have one link between them, which a wrap does not double.
inline bool is_ring(int size, bool wrap) {
  return wrap && size > 2;
}

// Whether along all dimensions every rank has as many neighbours as any other.
bool closed(const GroupShape& shape);
// The same, of a single dimension.
bool closed_line(const GroupShape& shape);

// Chunks as in Move.
struct Chunks {
  int64_t first = 0, count = 1, blocks = 1, stride = 0, repeats = 1, repeat_stride = 0;
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
// Shares of the array that such a gather, or a sum by it, puts on the busiest link, where each of `size`
// ranks has one.
double axis_shares(Operation operation, int size, bool wrap);

Move send_of(int round, int peer, const Chunks& chunks);
Move receive_of(int round, int peer, const Chunks& chunks);
// The order that Plan promises: by round, and within a round as they were added.
void sort_by_round(std::vector<Move>& moves);

}  // namespace toroid::schedule
