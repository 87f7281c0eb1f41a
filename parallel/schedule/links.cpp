#include "parallel/schedule/links.h"

#include <algorithm>
#include <optional>

#include "parallel/schedule/algorithm.h"
#include "parallel/schedule/moves.h"

namespace toroid::schedule {
namespace {

std::optional<LinkLoad> formula(Algorithm algorithm, Operation operation, const GroupShape& shape,
                                double array_bytes) {
  return algorithm->load == nullptr ? std::nullopt : algorithm->load(operation, shape, array_bytes);
}

}  // namespace

void append_route(const GroupShape& shape, int from, int to, std::vector<Link>& links) {
  int plane = from / shape.columns / shape.rows;
  int row = from / shape.columns % shape.rows;
  int column = from % shape.columns;
  // Moves `position` to `target` along one dimension.
  const auto walk = [&](int& position, int target, int size, bool wrap, Direction on, Direction back) {
    bool onward = target > position;
    if (is_ring(size, wrap)) onward = (target - position + size) % size <= size / 2;
    while (position != target) {
      links.push_back({(plane * shape.rows + row) * shape.columns + column, onward ? on : back});
      position = (position + (onward ? 1 : size - 1)) % size;
    }
  };
  walk(column, to % shape.columns, shape.columns, shape.wrap_columns, Direction::right, Direction::left);
  walk(row, to / shape.columns % shape.rows, shape.rows, shape.wrap_rows, Direction::down, Direction::up);
  walk(plane, to / shape.columns / shape.rows, shape.planes, shape.wrap_planes, Direction::ahead,
       Direction::back);
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
        traffic.chunks[index] += move.chunks();
        traffic.most_messages = std::max(traffic.most_messages, ++messages[index]);
      }
    }
  }
  return traffic;
}

int most_messages(Algorithm algorithm, Operation operation, const GroupShape& shape) {
  if (shape.size() == 1) return 0;
  const auto load = formula(algorithm, operation, shape, 0);
  return load ? load->messages : count_traffic(algorithm, operation, shape).most_messages;
}

double most_link_bytes(Algorithm algorithm, Operation operation, const GroupShape& shape,
                       double array_bytes) {
  if (shape.size() == 1) return 0;
  const auto load = formula(algorithm, operation, shape, array_bytes);
  return load ? load->bytes : count_traffic(algorithm, operation, shape).most_bytes(array_bytes);
}

}  // namespace toroid::schedule
