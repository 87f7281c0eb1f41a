// Recursive halving and doubling. Backwards, as a reduce_scatter over 8 ranks, rank 0 in round
//
//   0   exchanges with rank 1: keeps chunks 0 2 4 6, which are now sums 0+1
//   1   exchanges with rank 2: keeps chunks 0 4,     which are now sums (0+1)+(2+3)
//   2   exchanges with rank 4: keeps chunk 0,        ((0+1)+(2+3))+((4+5)+(6+7))
//
// so that every chunk is summed as the balanced binary tree over the ranks in order, whoever owns it: the
// order of deterministic mode. log2(n) rounds, (n - 1)/n of the array sent by each rank.
#include <algorithm>

#include "parallel/schedule/algorithm.h"
#include "parallel/schedule/moves.h"

namespace toroid::schedule {
namespace {

// Partners at distance 1, 2, 4 ...: the number of ranks is a power of two.
bool doubles_on(const GroupShape& shape) {
  return power_of_two(shape.size());
}

Plan gather_doubling(const GroupShape& shape, int rank, bool) {
  const int size = shape.size();
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

Plan broadcast_doubling(const GroupShape& shape, int rank, int root) {
  const int size = shape.size();
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

// Messages over the link from position x when every position whose bit of `distance` is clear sends to the
// one `distance` further on.
int exchange_load(int x, int distance, int size, bool ring) {
  // Half way round a ring the way back is as long as the way on, so that all go the same way.
  if (ring && 2 * distance == size) return distance;
  const int y = x % (2 * distance);
  return std::min(y + 1, 2 * distance - 1 - y);
}

// Array shares over the busiest link of a dimension in the rounds of a reduce_scatter by halving.
double exchange_share(int size, bool ring) {
  double most = 0;
  for (int x = 0; x < size; ++x) {
    double share = 0;
    for (int distance = 1; distance < size; distance *= 2)
      share += exchange_load(x, distance, size, ring) / (2.0 * distance);
    most = std::max(most, share);
  }
  return most;
}

// Messages over the busiest link of a dimension when a broadcast from position 0 doubles the reached
// positions.
int broadcast_messages(int size) {
  int most = 0;
  for (int x = 0; x < size; ++x) {
    int messages = 0;
    for (int distance = 1; distance < size; distance *= 2)
      messages += std::max(0, std::min(x + 1, 2 * distance - 1 - x));
    most = std::max(most, messages);
  }
  return most;
}

// Nothing for a broadcast over a number of ranks that is no power of two.
std::optional<LinkLoad> load_of_doubling(Operation operation, const GroupShape& shape, double bytes) {
  const int messages = std::max({shape.planes, shape.rows, shape.columns}) / 2;
  if (operation == Operation::broadcast) {
    if (!power_of_two(shape.planes) || !power_of_two(shape.rows) || !power_of_two(shape.columns))
      return std::nullopt;
    return LinkLoad{messages,
                    bytes * std::max({broadcast_messages(shape.planes), broadcast_messages(shape.rows),
                                      broadcast_messages(shape.columns)})};
  }
  const double passes = operation == Operation::all_reduce ? 2 : 1;
  // The rounds along the columns come after those along the row have cut the array by `columns`, and those
  // between planes last.
  const auto share = [](int size, bool wrap) { return exchange_share(size, is_ring(size, wrap)); };
  return LinkLoad{messages,
                  passes * bytes *
                      std::max({share(shape.columns, shape.wrap_columns),
                                share(shape.rows, shape.wrap_rows) / shape.columns,
                                share(shape.planes, shape.wrap_planes) / (shape.columns * shape.rows)})};
}

Wanted wanted_doubling(const Collective& collective) {
  if (collective.operation == Operation::all_to_all) return Wanted::not_at_all;
  if (collective.operation == Operation::broadcast) return Wanted::for_few_rounds;
  if (collective.deterministic && sums(collective.operation)) return Wanted::for_its_order;
  const bool few =
      collective.bytes <= kFewBytes && doubles_on(collective.shape) && !collective.shape.neighbours_alone;
  return few ? Wanted::for_few_rounds : Wanted::not_at_all;
}

constexpr AlgorithmDescription kHalvingDoubling{.name = "halving_doubling",
                                                .gather = gather_doubling,
                                                .gathers_on = doubles_on,
                                                .broadcast = broadcast_doubling,
                                                .load = load_of_doubling,
                                                .wanted = wanted_doubling};

}  // namespace

constinit const Algorithm Algorithm::halving_doubling(kHalvingDoubling);

}  // namespace toroid::schedule
