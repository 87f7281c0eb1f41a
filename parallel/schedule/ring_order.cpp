// The order of a ring over rows and columns, or over planes and the order within a plane: a walk of
// neighbours through all of them, so that no link carries two messages in a round.
#include "parallel/schedule/moves.h"

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

}  // namespace

RingOrder ring_order(const GroupShape& shape) {
  if (shape.planes > 1) {
    // The walk through a plane is a row of all its ranks, at the same places in every plane.
    const GroupShape plane{shape.rows, shape.columns, shape.wrap_rows, shape.wrap_columns};
    const RingOrder within = ring_order(plane);
    RingOrder out = ring_order(GroupShape{shape.planes, plane.size(), shape.wrap_planes, within.closed});
    for (int& rank : out.ranks) rank = rank / plane.size() * plane.size() + within.at(rank % plane.size());
    return out;
  }
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

int RingOrder::position_of(int rank) const {
  int position = 0;
  while (at(position) != rank) ++position;
  return position;
}

bool closed(const GroupShape& shape) {
  const auto along = [](int size, bool wrap) { return size <= 2 || is_ring(size, wrap); };
  return along(shape.planes, shape.wrap_planes) && along(shape.rows, shape.wrap_rows) &&
         along(shape.columns, shape.wrap_columns);
}

bool closed_line(const GroupShape& shape) {
  return shape.dimensions() <= 1 && closed(shape);
}

}  // namespace toroid::schedule
