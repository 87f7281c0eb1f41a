// The torus of two or three dimensions. A rank's share is cut into a pair of pieces for each dimension. Pair
// i goes along dimension i first and then, with those of the whole line, along the next one, and so on round;
// the two pieces of a pair go both ways. In every phase each pair is then on a dimension of its own, so that
// all links of a rank carry traffic. In two dimensions:
//
//   phase 1    pieces 0, 1:  one rank's along the row       pieces 2, 3:  one rank's along the column
//   phase 2    pieces 0, 1:  a row's along the column       pieces 2, 3:  a column's along the row
//
// and in three the last phase hands on whole planes. A phase takes half of the longest dimension's ranks in
// rounds on rings; along a dimension whose links do not close one, one less than it has ranks.
#include <algorithm>
#include <utility>
#include <vector>

#include "parallel/schedule/algorithm.h"
#include "parallel/schedule/moves.h"

namespace toroid::schedule {
namespace {

struct Dimension {
  int size = 1;
  bool wrap = true;
  int apart = 1;  // neighbours, in ranks
  int position_of(int rank) const { return rank / apart % size; }
};

// Those with more than one rank, the row first.
std::vector<Dimension> dimensions_of(const GroupShape& shape) {
  std::vector<Dimension> out;
  int apart = 1;
  for (const auto& [size, wrap] :
       {std::pair(shape.columns, shape.wrap_columns), std::pair(shape.rows, shape.wrap_rows),
        std::pair(shape.planes, shape.wrap_planes)}) {
    if (size > 1) out.push_back({size, wrap, apart});
    apart *= size;
  }
  return out;
}

Plan gather_torus(const GroupShape& shape, int rank, bool backwards) {
  if (shape.dimensions() <= 1) return Algorithm::bidirectional_ring->gather(shape, rank, backwards);
  const std::vector<Dimension> dimensions = dimensions_of(shape);
  const size_t count = dimensions.size();
  const auto pieces = 2 * static_cast<int64_t>(count);
  int phase_rounds = 0;
  for (const Dimension& each : dimensions)
    phase_rounds = std::max(phase_rounds, axis_rounds(each.size, is_ring(each.size, each.wrap)));
  Plan plan{shape.size() * pieces, static_cast<int>(count) * phase_rounds, {}};
  for (size_t phase = 0; phase < count; ++phase) {
    for (size_t pair = 0; pair < count; ++pair) {
      const Dimension& along = dimensions[(pair + phase) % count];
      // The pair has been gathered along those before: of all their ranks it is held here.
      std::vector<Dimension> gathered;
      int first = rank - along.position_of(rank) * along.apart;
      for (size_t before = 0; before < phase; ++before) {
        gathered.push_back(dimensions[(pair + before) % count]);
        first -= gathered.back().position_of(rank) * gathered.back().apart;
      }
      std::sort(gathered.begin(), gathered.end(),
                [](const Dimension& a, const Dimension& b) { return a.apart < b.apart; });
      AxisGather axis;
      axis.first_round = static_cast<int>(phase) * phase_rounds;
      axis.size = along.size;
      axis.ring = is_ring(along.size, along.wrap);
      axis.position = along.position_of(rank);
      axis.peer = [&](int position) { return rank + (position - axis.position) * along.apart; };
      axis.chunks = [&](int position, Part part) {
        Chunks chunks;
        chunks.first = (first + position * along.apart) * pieces + 2 * static_cast<int64_t>(pair) +
                       (part == Part::backward ? 1 : 0);
        chunks.count = part == Part::whole ? 2 : 1;
        if (!gathered.empty()) {
          chunks.blocks = gathered[0].size;
          chunks.stride = gathered[0].apart * pieces;
        }
        if (gathered.size() > 1) {
          chunks.repeats = gathered[1].size;
          chunks.repeat_stride = gathered[1].apart * pieces;
        }
        return chunks;
      };
      add_axis_gather(axis, plan.moves);
    }
  }
  return plan;
}

// Of the array, over the busiest link.
double torus_share(Operation operation, const GroupShape& shape) {
  const std::vector<Dimension> dimensions = dimensions_of(shape);
  const size_t count = dimensions.size();
  double most = 0;
  for (size_t d = 0; d < count; ++d) {
    // A part of the array comes to this dimension one rank's share at a time, one a whole line's at a time,
    // and in three dimensions one a whole plane's.
    double shares = 0, held = 1;
    for (size_t before = 0; before < count; ++before) {
      shares += held;
      held *= dimensions[(d + count - 1 - before) % count].size;
    }
    most = std::max(most, shares * axis_shares(operation, dimensions[d].size, dimensions[d].wrap));
  }
  return most / (static_cast<double>(count) * shape.size());
}

std::optional<LinkLoad> load_of_torus(Operation operation, const GroupShape& shape, double bytes) {
  if (shape.dimensions() <= 1) return Algorithm::bidirectional_ring->load(operation, shape, bytes);
  return LinkLoad{1, bytes * torus_share(operation, shape)};
}

Wanted wanted_torus(const Collective& collective) {
  const bool fits = collective.shape.dimensions() > 1 && gathers_or_sums(collective.operation);
  return fits ? Wanted::for_bandwidth : Wanted::not_at_all;
}

constexpr AlgorithmDescription kTorus{.name = "torus",
                                      .gather = gather_torus,
                                      .load = load_of_torus,
                                      .alike = closed,
                                      .between_neighbours = true,
                                      .wanted = wanted_torus};

}  // namespace

constinit const Algorithm Algorithm::torus(kTorus);

}  // namespace toroid::schedule
