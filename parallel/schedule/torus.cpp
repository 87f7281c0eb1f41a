// The 2D torus. A rank's share is cut into four: the first two go along the rank's row and then, with those
// of the whole row, along the columns; the last two go along the column first. Each pair goes both ways
// round, so that in both phases all four links of a rank carry traffic:
//
//   phase 1    pieces 0, 1:  one rank's along the row       pieces 2, 3:  one rank's along the column
//   phase 2    pieces 0, 1:  a row's along the column       pieces 2, 3:  a column's along the row
//
// A phase takes max(rows, columns) / 2 rounds on rings; along a dimension whose links do not close one, one
// less than it has ranks.
#include <algorithm>

#include "parallel/schedule/algorithms.h"

namespace toroid::schedule {

Plan gather_torus(const GroupShape& shape, int rank) {
  if (shape.rows == 1 || shape.columns == 1) return gather_bidirectional_ring(shape, rank);
  constexpr int64_t kPieces = 4;
  const int rows = shape.rows;
  const int columns = shape.columns;
  const int row = rank / columns;
  const int column = rank % columns;
  const bool ring_of_columns = is_ring(columns, shape.wrap_columns),
             ring_of_rows = is_ring(rows, shape.wrap_rows);
  const int phase = std::max(axis_rounds(columns, ring_of_columns), axis_rounds(rows, ring_of_rows));
  Plan plan{shape.size() * kPieces, 2 * phase, {}};

  // Piece `pair` or the one after it or both, of `ranks` ranks from `first` on that lie `apart`.
  const auto pieces = [](int pair, Part part, int first, int ranks, int apart) {
    Chunks chunks;
    chunks.first = first * kPieces + pair + (part == Part::backward ? 1 : 0);
    chunks.count = part == Part::whole ? 2 : 1;
    chunks.blocks = ranks;
    chunks.stride = apart * kPieces;
    return chunks;
  };
  AxisGather along_row;
  along_row.size = columns;
  along_row.ring = ring_of_columns;
  along_row.position = column;
  along_row.peer = [&](int position) { return row * columns + position; };
  AxisGather along_column;
  along_column.size = rows;
  along_column.ring = ring_of_rows;
  along_column.position = row;
  along_column.peer = [&](int position) { return position * columns + column; };

  along_row.chunks = [&](int position, Part part) { return pieces(0, part, row * columns + position, 1, 0); };
  along_column.chunks = [&](int position, Part part) {
    return pieces(2, part, position * columns + column, 1, 0);
  };
  add_axis_gather(along_row, plan.moves);
  add_axis_gather(along_column, plan.moves);

  along_column.first_round = phase;
  along_column.chunks = [&](int position, Part part) {
    return pieces(0, part, position * columns, columns, 1);
  };
  along_row.first_round = phase;
  along_row.chunks = [&](int position, Part part) { return pieces(2, part, position, rows, columns); };
  add_axis_gather(along_column, plan.moves);
  add_axis_gather(along_row, plan.moves);
  return plan;
}

}  // namespace toroid::schedule
