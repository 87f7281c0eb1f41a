// Every rank exchanges with every other at once: one round, n - 1 messages a rank. Ranks begin with their
// next neighbour, so that not all send to the same one first. Each sum is made by its owner, in the order of
// the ranks that come after it, or, where it is asked for, in the order of all of them.
#include <algorithm>

#include "parallel/schedule/algorithm.h"
#include "parallel/schedule/moves.h"

namespace toroid::schedule {
namespace {

constexpr int kFewRanks = 16;

Plan gather_direct(const GroupShape& shape, int rank, bool) {
  const int size = shape.size();
  Plan plan{size, size > 1 ? 1 : 0, {}};
  for (int i = 1; i < size; ++i) {
    const int peer = (rank + i) % size;
    plan.moves.push_back(send_of(0, peer, {rank}));
    plan.moves.push_back(receive_of(0, peer, {peer}));
  }
  return plan;
}

Plan broadcast_direct(const GroupShape& shape, int rank, int root) {
  const int size = shape.size();
  Plan plan{1, size > 1 ? 1 : 0, {}};
  if (rank != root) {
    plan.moves.push_back(receive_of(0, root, {}));
  } else {
    for (int i = 1; i < size; ++i) plan.moves.push_back(send_of(0, (root + i) % size, {}));
  }
  return plan;
}

Plan all_to_all_direct(const GroupShape& shape, int rank) {
  const int size = shape.size();
  Plan plan{size, size > 1 ? 1 : 0, {}};
  for (int i = 1; i < size; ++i) {
    const int to = (rank + i) % size;
    const int from = (rank - i + size) % size;
    plan.moves.push_back(send_of(0, to, {to}));
    plan.moves.push_back(receive_of(0, from, {from}));
  }
  return plan;
}

// Messages over the busiest link of a ring or line when every position sends to every other.
int everyone_load(int size, bool wrap) {
  const int half = size / 2;
  return is_ring(size, wrap) ? half * (half + 1) / 2 : half * (size - half);
}

// The same when position 0 sends to every other.
int one_load(int size, bool wrap) {
  return is_ring(size, wrap) ? size / 2 : size - 1;
}

int direct_messages(Operation operation, const GroupShape& shape) {
  // Along the row go the messages to all the rows and planes; along a column those from all the columns to
  // all the planes, or, of a single sender, those that have reached its column; between planes alike.
  if (operation == Operation::broadcast) {
    return std::max({shape.planes * shape.rows * one_load(shape.columns, shape.wrap_columns),
                     shape.planes * one_load(shape.rows, shape.wrap_rows),
                     one_load(shape.planes, shape.wrap_planes)});
  }
  return std::max({shape.planes * shape.rows * everyone_load(shape.columns, shape.wrap_columns),
                   shape.planes * shape.columns * everyone_load(shape.rows, shape.wrap_rows),
                   shape.rows * shape.columns * everyone_load(shape.planes, shape.wrap_planes)});
}

std::optional<LinkLoad> load_of_direct(Operation operation, const GroupShape& shape, double bytes) {
  const int messages = direct_messages(operation, shape);
  const double passes = operation == Operation::all_reduce ? 2 : 1;
  return LinkLoad{messages,
                  passes * bytes * messages / (operation == Operation::broadcast ? 1 : shape.size())};
}

Wanted wanted_direct(const Collective& collective) {
  const int size = collective.shape.size();
  if (collective.operation == Operation::broadcast) return Wanted::not_at_all;
  if (collective.operation == Operation::all_to_all) return Wanted::for_one_round;
  if (size <= 2) return Wanted::for_a_pair;
  const bool few = collective.bytes <= kFewBytes && size <= kFewRanks && !collective.shape.neighbours_alone;
  return few ? Wanted::for_one_round : Wanted::not_at_all;
}

constexpr AlgorithmDescription kDirect{.name = "direct",
                                       .gather = gather_direct,
                                       .broadcast = broadcast_direct,
                                       .all_to_all = all_to_all_direct,
                                       .load = load_of_direct,
                                       .peers_at_once = true,
                                       .wanted = wanted_direct};

}  // namespace

constinit const Algorithm Algorithm::direct(kDirect);

}  // namespace toroid::schedule
