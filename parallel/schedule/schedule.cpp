#include "parallel/schedule/schedule.h"

#include <algorithm>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "parallel/schedule/algorithm.h"
#include "parallel/schedule/moves.h"

namespace toroid::schedule {
namespace {

Plan scatter(Algorithm algorithm, const GroupShape& shape, int rank) {
  Plan plan = algorithm->gather(shape, rank, true);
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

// Makes a rank's sums those over all ranks in order, its own summand in its place among them.
void sum_in_order(int rank, std::vector<Move>& moves) {
  // Sends stay as they are, before the receives.
  const auto order = [](const Move& move) { return move.receive ? move.peer : -1; };
  std::stable_sort(moves.begin(), moves.end(),
                   [&](const Move& a, const Move& b) { return order(a) < order(b); });
  for (Move& move : moves) move.precedes = move.receive && move.peer < rank;
}

}  // namespace

bool serves(Algorithm algorithm, Operation operation, const GroupShape& shape) {
  if (operation == Operation::all_to_all) return algorithm->all_to_all != nullptr;
  if (operation == Operation::broadcast) return algorithm->broadcast != nullptr;
  return algorithm->gathers_on == nullptr || algorithm->gathers_on(shape);
}

Plan plan(Algorithm algorithm, Operation operation, const GroupShape& shape, int rank, int root) {
  const int size = shape.size();
  require(shape.planes >= 1 && shape.rows >= 1 && shape.columns >= 1, "a group has ranks");
  require(rank >= 0 && rank < size && root >= 0 && root < size, "rank and root are of the group");
  if (!serves(algorithm, operation, shape)) {
    throw UserError("the algorithm " + std::string(name(algorithm)) + " has no " +
                    std::string(name(operation)) + " for " + text(shape) + " ranks");
  }
  switch (operation) {
    case Operation::all_gather:
      return algorithm->gather(shape, rank, false);
    case Operation::reduce_scatter:
      return scatter(algorithm, shape, rank);
    case Operation::all_reduce:
      return then(scatter(algorithm, shape, rank), algorithm->gather(shape, rank, false));
    case Operation::broadcast:
      return algorithm->broadcast(shape, rank, root);
    case Operation::all_to_all:
      return algorithm->all_to_all(shape, rank);
  }
  throw InternalError("an unknown operation");
}

Algorithm automatic_algorithm(Operation operation, const GroupShape& shape, int64_t bytes,
                              bool deterministic) {
  const Collective collective{operation, shape, bytes, deterministic};
  const auto wanted = [&](Algorithm algorithm) {
    return algorithm->wanted == nullptr ? Wanted::not_at_all : algorithm->wanted(collective);
  };
  const auto all = all_algorithms();
  const auto best = std::max_element(all.begin(), all.end(),
                                     [&](Algorithm a, Algorithm b) { return wanted(a) < wanted(b); });
  require(wanted(*best) != Wanted::not_at_all, "some algorithm is wanted for every collective");
  return *best;
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
  const GroupShape line{1, size};
  Plan out = scatter(Algorithm::direct, line, rank);
  sum_in_order(rank, out.moves);
  if (operation == Operation::all_reduce)
    out = then(std::move(out), plan(Algorithm::direct, Operation::all_gather, line, rank));
  return out;
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
  move.repeats = chunks.repeats;
  move.repeat_stride = chunks.repeats > 1 ? chunks.repeat_stride : 0;
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

std::string text(const GroupShape& shape) {
  return (shape.planes > 1 ? std::to_string(shape.planes) + " x " : "") + std::to_string(shape.rows) + " x " +
         std::to_string(shape.columns);
}

std::string_view name(Algorithm algorithm) {
  return algorithm->name;
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
