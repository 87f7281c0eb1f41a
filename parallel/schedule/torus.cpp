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

#include "parallel/schedule/algorithm.h"
#include "parallel/schedule/moves.h"

namespace toroid::schedule {
namespace {

bool has_one_dimension(const GroupShape& shape) {
  return shape.rows == 1 || shape.columns == 1;
}

Plan gather_torus(const GroupShape& shape, int rank, bool backwards) {
  if (has_one_dimension(shape)) return Algorithm::bidirectional_ring->gather(shape, rank, backwards);
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

double torus_share(Operation operation, const GroupShape& shape) {
  // Half of the array goes along a dimension one rank's share at a time, and half a whole line's at a time.
  const double halves = 2.0 * shape.size();
  const double along_row =
      axis_shares(operation, shape.columns, shape.wrap_columns) * (shape.rows + 1) / halves;
  const double along_column =
      axis_shares(operation, shape.rows, shape.wrap_rows) * (shape.columns + 1) / halves;
  return std::max(along_row, along_column);
}

std::optional<LinkLoad> load_of_torus(Operation operation, const GroupShape& shape, double bytes) {
  if (has_one_dimension(shape)) return Algorithm::bidirectional_ring->load(operation, shape, bytes);
  return LinkLoad{1, bytes * torus_share(operation, shape)};
}

Wanted wanted_torus(const Collective& collective) {
  const bool fits = !has_one_dimension(collective.shape) && gathers_or_sums(collective.operation);
  return fits ? Wanted::for_bandwidth : Wanted::not_at_all;
}

constexpr AlgorithmDescription kTorus{
    .name = "torus", .gather = gather_torus, .load = load_of_torus, .alike = closed, .wanted = wanted_torus};

}  // namespace

constinit const Algorithm Algorithm::torus(kTorus);

}  // namespace toroid::schedule
