#include "parallel/schedule/links.h"

#include <algorithm>

#include "core/base/error.h"
#include "parallel/schedule/algorithms.h"

namespace toroid::schedule {
namespace {

// Shares of the array over the busiest link of a ring or line of `size` whose ranks hold one share each.
double axis_shares(Operation operation, int size, bool wrap) {
  const bool twice = operation == Operation::all_reduce;
  if (size == 1) return 0;
  // Every share half way round, each way.
  if (is_ring(size, wrap)) return (twice ? 1.0 : 0.5) * (size - 1);
  // The busiest link of a gather leads to one end. A scatter's leads away from there, so that the sum of both
  // is the same on all links.
  return twice ? size : size - 1;
}

double torus_share(Operation operation, const GroupShape& shape) {
  // Half of the array goes along a dimension one rank's share at a time, and half a whole line's at a time.
  const double halves = 2.0 * shape.size();
  const double along_row =
      axis_shares(operation, shape.columns, shape.wrap_columns) * (shape.rows + 1) / halves;
  const double along_column =
      axis_shares(operation, shape.rows, shape.wrap_rows) * (shape.columns + 1) / halves;
  return std::max(along_row, along_column);
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
  // Along the row go the messages to all the rows; along a column those from all the columns, or, of a single
  // sender, those that have reached its column.
  if (operation == Operation::broadcast) {
    return std::max(shape.rows * one_load(shape.columns, shape.wrap_columns),
                    one_load(shape.rows, shape.wrap_rows));
  }
  return std::max(shape.rows * everyone_load(shape.columns, shape.wrap_columns),
                  shape.columns * everyone_load(shape.rows, shape.wrap_rows));
}

bool has_formula(Algorithm algorithm, Operation operation, const GroupShape& shape) {
  return algorithm != Algorithm::halving_doubling || operation != Operation::broadcast ||
         (power_of_two(shape.rows) && power_of_two(shape.columns));
}

}  // namespace

void append_route(const GroupShape& shape, int from, int to, std::vector<Link>& links) {
  int row = from / shape.columns;
  int column = from % shape.columns;
  // Moves `position` to `target` along one dimension.
  const auto walk = [&](int& position, int target, int size, bool wrap, Direction on, Direction back) {
    bool onward = target > position;
    if (is_ring(size, wrap)) onward = (target - position + size) % size <= size / 2;
    while (position != target) {
      links.push_back({row * shape.columns + column, onward ? on : back});
      position = (position + (onward ? 1 : size - 1)) % size;
    }
  };
  walk(column, to % shape.columns, shape.columns, shape.wrap_columns, Direction::right, Direction::left);
  walk(row, to / shape.columns, shape.rows, shape.wrap_rows, Direction::down, Direction::up);
}

double LinkTraffic::most_bytes(double array_bytes) const {
  const int64_t most = chunks.empty() ? 0 : *std::max_element(chunks.begin(), chunks.end());
  return array_bytes * static_cast<double>(most) / static_cast<double>(array_chunks);
}

LinkTraffic count_traffic(Algorithm algorithm, Operation operation, const GroupShape& shape, int root) {
  LinkTraffic traffic;
  std::vector<std::vector<Move>> sends;  // by round; `peer` stays the receiver, `first` becomes the sender
  for (int rank = 0; rank < shape.size(); ++rank) {
    const Plan made = plan(algorithm, operation, shape, rank, root);
    traffic.array_chunks = made.chunks;
    sends.resize(static_cast<size_t>(made.rounds));
    for (Move move : made.moves) {
      if (move.receive) continue;
      move.first = rank;
      sends[static_cast<size_t>(move.round)].push_back(move);
    }
  }
  traffic.chunks.resize(static_cast<size_t>(link_count(shape)));
  std::vector<int> messages(traffic.chunks.size());
  std::vector<Link> route;
  for (const std::vector<Move>& round : sends) {
    std::fill(messages.begin(), messages.end(), 0);
    for (const Move& move : round) {
      route.clear();
      append_route(shape, static_cast<int>(move.first), move.peer, route);
      for (const Link& link : route) {
        const auto index = static_cast<size_t>(link_index(link));
        traffic.chunks[index] += move.count * move.blocks;
        traffic.most_messages = std::max(traffic.most_messages, ++messages[index]);
      }
    }
  }
  return traffic;
}

int most_messages(Algorithm algorithm, Operation operation, const GroupShape& shape) {
  if (shape.size() == 1) return 0;
  if (!has_formula(algorithm, operation, shape))
    return count_traffic(algorithm, operation, shape).most_messages;
  switch (algorithm) {
    case Algorithm::ring:
    case Algorithm::bidirectional_ring:
    case Algorithm::torus:
      return 1;
    case Algorithm::halving_doubling:
      return std::max(shape.rows, shape.columns) / 2;
    case Algorithm::direct:
      return direct_messages(operation, shape);
  }
  throw InternalError("an unknown algorithm");
}

double most_link_bytes(Algorithm algorithm, Operation operation, const GroupShape& shape,
                       double array_bytes) {
  const int size = shape.size();
  if (size == 1) return 0;
  if (!has_formula(algorithm, operation, shape))
    return count_traffic(algorithm, operation, shape).most_bytes(array_bytes);
  const bool broadcast = operation == Operation::broadcast;
  const double passes = operation == Operation::all_reduce ? 2 : 1;
  switch (algorithm) {
    case Algorithm::ring:
      return passes * array_bytes * (size - 1) / size;
    case Algorithm::bidirectional_ring:
      return array_bytes * axis_shares(operation, size, ring_order(shape).closed) / size;
    case Algorithm::torus:
      if (shape.rows == 1 || shape.columns == 1)
        return most_link_bytes(Algorithm::bidirectional_ring, operation, shape, array_bytes);
      return array_bytes * torus_share(operation, shape);
    case Algorithm::halving_doubling:
      if (broadcast)
        return array_bytes * std::max(broadcast_messages(shape.rows), broadcast_messages(shape.columns));
      // The rounds along the columns come after those along the row have cut the array by `columns`.
      return passes * array_bytes *
             std::max(exchange_share(shape.columns, is_ring(shape.columns, shape.wrap_columns)),
                      exchange_share(shape.rows, is_ring(shape.rows, shape.wrap_rows)) / shape.columns);
    case Algorithm::direct:
      return passes * array_bytes * direct_messages(operation, shape) / (broadcast ? 1 : size);
  }
  throw InternalError("an unknown algorithm");
}

}  // namespace toroid::schedule
