// Rings. In every round each rank hands on what it received in the round before:
//
//   ring                 0 -> 1 -> 2 -> 3 -> 0     n - 1 rounds, (n - 1)/n of the array on every link one way
//   bidirectional_ring   0 => 1 => 2 => 3 => 0     every chunk both ways, as far as the opposite rank, which
//                        0 <= 1 <= 2 <= 3 <= 0     gets half of it from either side: n/2 rounds, half the
//                        bytes
//
// The order of a ring over rows and columns is a walk of neighbours through all of them, so that no link
// carries two messages in a round.
#include <utility>

#include "parallel/schedule/algorithms.h"

namespace toroid::schedule {
namespace {

struct Grid {
  int rows, columns;
  bool transposed;  // rows and columns are those of the group turned round
  int rank(int row, int column) const { return transposed ? column * rows + row : row * columns + column; }
};

// Row 0 from left to right, the other rows to and fro without column 0, and back up column 0:
//
//   0 > 1 > 2 > 3        With an odd number of rows the last row ends on the right, and a link that wraps
//   ^           v        leads from there to column 0.
//   . < . < . < .
std::vector<int> walk_and_return(const Grid& grid) {
  std::vector<int> order;
  order.push_back(grid.rank(0, 0));
  for (int row = 0; row < grid.rows; ++row) {
    for (int i = 1; i < grid.columns; ++i) {
      order.push_back(grid.rank(row, row % 2 == 0 ? i : grid.columns - i));
    }
  }
  for (int row = grid.rows - 1; row > 0; --row) order.push_back(grid.rank(row, 0));
  return order;
}

std::vector<int> to_and_fro(const Grid& grid) {
  std::vector<int> order;
  for (int row = 0; row < grid.rows; ++row) {
    for (int i = 0; i < grid.columns; ++i)
      order.push_back(grid.rank(row, row % 2 == 0 ? i : grid.columns - 1 - i));
  }
  return order;
}

int position_of(const RingOrder& order, int rank) {
  int position = 0;
  while (order.ranks[static_cast<size_t>(position)] != rank) ++position;
  return position;
}

int at(const RingOrder& order, int position) {
  return order.ranks[static_cast<size_t>(position)];
}

}  // namespace

RingOrder ring_order(const GroupShape& shape) {
  const Grid grid{shape.rows, shape.columns, false};
  const Grid turned{shape.columns, shape.rows, true};
  if (shape.rows == 1 || shape.columns == 1) {
    const bool wrap = shape.rows == 1 ? shape.wrap_columns : shape.wrap_rows;
    return {to_and_fro(grid), is_ring(shape.size(), wrap)};
  }
  if (shape.rows % 2 == 0 || shape.wrap_columns) return {walk_and_return(grid), true};
  if (shape.columns % 2 == 0 || shape.wrap_rows) return {walk_and_return(turned), true};
  // An odd number of ranks coloured like a chessboard has no closed walk.
  return {to_and_fro(grid), false};
}

Plan gather_ring(const GroupShape& shape, int rank, int step) {
  const int size = shape.size();
  const RingOrder order = ring_order(shape);
  const int position = position_of(order, rank);
  const auto wrapped = [size](int p) { return ((p % size) + size) % size; };
  Plan plan{size, size - 1, {}};
  for (int t = 0; t < size - 1; ++t) {
    const int sent = at(order, wrapped(position - step * t));
    const int received = at(order, wrapped(position - step * (t + 1)));
    plan.moves.push_back(send_of(t, at(order, wrapped(position + step)), {sent}));
    plan.moves.push_back(receive_of(t, at(order, wrapped(position - step)), {received}));
  }
  return plan;
}

Plan gather_bidirectional_ring(const GroupShape& shape, int rank) {
  const RingOrder order = ring_order(shape);
  AxisGather axis;
  axis.size = shape.size();
  axis.ring = order.closed;
  axis.position = position_of(order, rank);
  axis.peer = [&](int position) { return at(order, position); };
  const int64_t per_rank = order.closed ? 2 : 1;
  axis.chunks = [&](int position, Part part) {
    return Chunks{at(order, position) * per_rank + (part == Part::backward ? 1 : 0),
                  part == Part::whole ? per_rank : 1};
  };
  Plan plan{axis.size * per_rank, axis_rounds(axis.size, axis.ring), {}};
  add_axis_gather(axis, plan.moves);
  return plan;
}

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

}  // namespace toroid::schedule
