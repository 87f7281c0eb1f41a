// One direction. In every round each rank hands on what it received in the round before:
//
//   0 -> 1 -> 2 -> 3 -> 0     n - 1 rounds, (n - 1)/n of the array on every link one way
#include "parallel/schedule/algorithm.h"
#include "parallel/schedule/moves.h"

namespace toroid::schedule {
namespace {

Plan gather_ring(const GroupShape& shape, int rank, bool backwards) {
  const int step = backwards ? -1 : 1;  // the direction in which chunks travel along the order of the ring
  const int size = shape.size();
  const RingOrder order = ring_order(shape);
  const int position = order.position_of(rank);
  const auto wrapped = [size](int p) { return ((p % size) + size) % size; };
  Plan plan{size, size - 1, {}};
  for (int t = 0; t < size - 1; ++t) {
    const int sent = order.at(wrapped(position - step * t));
    const int received = order.at(wrapped(position - step * (t + 1)));
    plan.moves.push_back(send_of(t, order.at(wrapped(position + step)), {sent}));
    plan.moves.push_back(receive_of(t, order.at(wrapped(position - step)), {received}));
  }
  return plan;
}

std::optional<LinkLoad> load_of_ring(Operation operation, const GroupShape& shape, double bytes) {
  const double passes = operation == Operation::all_reduce ? 2 : 1;
  const int size = shape.size();
  return LinkLoad{1, passes * bytes * (size - 1) / size};
}

// Where it is asked for alone: both ways at once are never slower.
constexpr AlgorithmDescription kRing{.name = "ring",
                                     .gather = gather_ring,
                                     .load = load_of_ring,
                                     .alike = closed_line,
                                     .between_neighbours = true};

}  // namespace

constinit const Algorithm Algorithm::ring(kRing);

}  // namespace toroid::schedule
