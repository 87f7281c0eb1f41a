// Every chunk both ways, as far as the opposite rank, which gets half of it from either side:
//
//   0 => 1 => 2 => 3 => 0     n/2 rounds, half the bytes of one direction on every link
//   0 <= 1 <= 2 <= 3 <= 0
#include "parallel/schedule/algorithm.h"
#include "parallel/schedule/moves.h"

namespace toroid::schedule {
namespace {

Plan gather_bidirectional_ring(const GroupShape& shape, int rank, bool) {
  const RingOrder order = ring_order(shape);
  AxisGather axis;
  axis.size = shape.size();
  axis.ring = order.closed;
  axis.position = order.position_of(rank);
  axis.peer = [&](int position) { return order.at(position); };
  const int64_t per_rank = order.closed ? 2 : 1;
  axis.chunks = [&](int position, Part part) {
    return Chunks{order.at(position) * per_rank + (part == Part::backward ? 1 : 0),
                  part == Part::whole ? per_rank : 1};
  };
  Plan plan{axis.size * per_rank, axis_rounds(axis.size, axis.ring), {}};
  add_axis_gather(axis, plan.moves);
  return plan;
}

std::optional<LinkLoad> load_of_bidirectional_ring(Operation operation, const GroupShape& shape,
                                                   double bytes) {
  const int size = shape.size();
  return LinkLoad{1, bytes * axis_shares(operation, size, ring_order(shape).closed) / size};
}

Wanted wanted_bidirectional_ring(const Collective& collective) {
  const bool line = collective.shape.dimensions() <= 1;
  return line && gathers_or_sums(collective.operation) ? Wanted::for_bandwidth : Wanted::not_at_all;
}

constexpr AlgorithmDescription kBidirectionalRing{.name = "bidirectional_ring",
                                                  .gather = gather_bidirectional_ring,
                                                  .load = load_of_bidirectional_ring,
                                                  .alike = closed_line,
                                                  .between_neighbours = true,
                                                  .wanted = wanted_bidirectional_ring};

}  // namespace

constinit const Algorithm Algorithm::bidirectional_ring(kBidirectionalRing);

}  // namespace toroid::schedule
