// A gather along one ring or line, both ways at once.
#include "parallel/schedule/moves.h"

namespace toroid::schedule {

int axis_rounds(int size, bool ring) {
  return ring ? size / 2 : size - 1;
}

void add_axis_gather(const AxisGather& axis, std::vector<Move>& moves) {
  const int size = axis.size, rounds = axis_rounds(size, axis.ring);
  // step 1 sends to the next position what comes from the positions before, -1 the other way.
  const auto one_way = [&](int step, Part half) {
    for (int t = 0; t < rounds; ++t) {
      const bool opposite = axis.ring && 2 * (t + 1) == size;
      const Part part = opposite ? half : Part::whole;
      const int round = axis.first_round + t;
      int to = axis.position + step;
      int from = axis.position - step;
      int sent = axis.position - step * t;
      int received = axis.position - step * (t + 1);
      if (axis.ring) {
        const auto wrapped = [size](int p) { return ((p % size) + size) % size; };
        to = wrapped(to), from = wrapped(from), sent = wrapped(sent), received = wrapped(received);
      }
      const auto inside = [size](int p) { return p >= 0 && p < size; };
      if (inside(to) && inside(sent)) moves.push_back(send_of(round, axis.peer(to), axis.chunks(sent, part)));
      if (inside(from) && inside(received))
        moves.push_back(receive_of(round, axis.peer(from), axis.chunks(received, part)));
    }
  };
  one_way(1, Part::forward);
  one_way(-1, Part::backward);
  sort_by_round(moves);
}

double axis_shares(Operation operation, int size, bool wrap) {
  const bool twice = operation == Operation::all_reduce;
  if (size == 1) return 0;
  // Every share half way round, each way.
  if (is_ring(size, wrap)) return (twice ? 1.0 : 0.5) * (size - 1);
  // The busiest link of a gather leads to one end. A scatter's leads away from there, so that the sum of both
  // is the same on all links.
  return twice ? size : size - 1;
}

}  // namespace toroid::schedule
