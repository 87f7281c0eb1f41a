#include "parallel/schedule/schedule.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "parallel/schedule/algorithms.h"

namespace toroid::schedule {
namespace {

// `backwards`: as it is played backwards for a reduce_scatter, in which chunks then travel forward again.
Plan gather(Algorithm algorithm, const GroupShape& shape, int rank, bool backwards) {
  switch (algorithm) {
    case Algorithm::ring:
      return gather_ring(shape, rank, backwards ? -1 : 1);
    case Algorithm::bidirectional_ring:
      return gather_bidirectional_ring(shape, rank);
    case Algorithm::torus:
      return gather_torus(shape, rank);
    case Algorithm::halving_doubling:
      return gather_doubling(shape.size(), rank);
    case Algorithm::direct:
      return gather_direct(shape.size(), rank);
  }
  throw InternalError("an unknown algorithm");
}

Plan scatter(Algorithm algorithm, const GroupShape& shape, int rank) {
  Plan plan = gather(algorithm, shape, rank, true);
  for (Move& move : plan.moves) {
    move.round = plan.rounds - 1 - move.round;
    move.receive = !move.receive;
    move.combine = move.receive;
  }
  sort_by_round(plan.moves);
  return plan;
}

Plan then(Plan first, Plan second) {
  for (Move& move : second.moves) {
    move.round += first.rounds;
    first.moves.push_back(move);
  }
  first.rounds += second.rounds;
  return first;
}

}  // namespace

bool serves(Algorithm algorithm, Operation operation, const GroupShape& shape) {
  const bool doubling = algorithm == Algorithm::halving_doubling;
  if (operation == Operation::all_to_all) return algorithm == Algorithm::direct;
  if (operation == Operation::broadcast) return doubling || algorithm == Algorithm::direct;
  return !doubling || power_of_two(shape.size());
}

Plan plan(Algorithm algorithm, Operation operation, const GroupShape& shape, int rank, int root) {
  const int size = shape.size();
  require(shape.rows >= 1 && shape.columns >= 1, "a group has ranks");
  require(rank >= 0 && rank < size && root >= 0 && root < size, "rank and root are of the group");
  if (!serves(algorithm, operation, shape)) {
    throw UserError("the algorithm " + std::string(name(algorithm)) + " has no " +
                    std::string(name(operation)) + " for " + std::to_string(shape.rows) + " x " +
                    std::to_string(shape.columns) + " ranks");
  }
  switch (operation) {
    case Operation::all_gather:
      return gather(algorithm, shape, rank, false);
    case Operation::reduce_scatter:
      return scatter(algorithm, shape, rank);
    case Operation::all_reduce:
      return then(scatter(algorithm, shape, rank), gather(algorithm, shape, rank, false));
    case Operation::broadcast:
      return algorithm == Algorithm::direct ? broadcast_direct(size, rank, root)
                                            : broadcast_doubling(size, rank, root);
    case Operation::all_to_all:
      return all_to_all_direct(size, rank);
  }
  throw InternalError("an unknown operation");
}

Plan round_of(const Plan& plan, int round) {
  Plan out{plan.chunks, 1, {}};
  for (Move move : plan.moves) {
    if (move.round != round) continue;
    move.round = 0;
    out.moves.push_back(move);
  }
  return out;
}

Plan plan_in_order(Operation operation, int size, int rank) {
  require(operation == Operation::reduce_scatter || operation == Operation::all_reduce, "sums have an order");
  Plan out = scatter(Algorithm::direct, {1, size}, rank);
  sum_in_order(rank, out.moves);
  return operation == Operation::all_reduce ? then(std::move(out), gather_direct(size, rank)) : out;
}

Plan plan_between_hosts(Operation operation, int hosts, int per_host, int rank) {
  const int place = rank % per_host;
  const Algorithm algorithm = power_of_two(hosts) ? Algorithm::halving_doubling : Algorithm::ring;
  Plan out = plan(algorithm, operation, {1, hosts}, rank / per_host);
  for (Move& move : out.moves) {
    require(move.count == 1, "moves of these algorithms are of single chunks");
    move.peer = move.peer * per_host + place;
    move.first = move.first * per_host + place;
    move.stride *= per_host;
  }
  out.chunks *= per_host;
  return out;
}

Move send_of(int round, int peer, const Chunks& chunks) {
  Move move;
  move.round = round;
  move.peer = peer;
  move.first = chunks.first;
  move.count = chunks.count;
  move.blocks = chunks.blocks;
  move.stride = chunks.blocks > 1 ? chunks.stride : 0;
  return move;
}

Move receive_of(int round, int peer, const Chunks& chunks) {
  Move move = send_of(round, peer, chunks);
  move.receive = true;
  return move;
}

void sort_by_round(std::vector<Move>& moves) {
  std::stable_sort(moves.begin(), moves.end(),
                   [](const Move& a, const Move& b) { return a.round < b.round; });
}

std::string_view name(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::ring:
      return "ring";
    case Algorithm::bidirectional_ring:
      return "bidirectional_ring";
    case Algorithm::torus:
      return "torus";
    case Algorithm::halving_doubling:
      return "halving_doubling";
    case Algorithm::direct:
      return "direct";
  }
  return "unknown";
}

std::string_view name(Operation operation) {
  switch (operation) {
    case Operation::all_gather:
      return "all_gather";
    case Operation::reduce_scatter:
      return "reduce_scatter";
    case Operation::all_reduce:
      return "all_reduce";
    case Operation::broadcast:
      return "broadcast";
    case Operation::all_to_all:
      return "all_to_all";
  }
  return "unknown";
}

}  // namespace toroid::schedule
