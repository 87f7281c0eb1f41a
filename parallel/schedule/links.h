// Messages on the links of a torus: which links a message takes, what a whole collective puts on each of
// them, and the formulas for the busiest one. A link is directed; two neighbours have one each way.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace toroid::schedule {

// Along a row to the right or left, along a column down (to the next row) or up, between planes ahead (to the
// next one) or back.
enum class Direction : uint8_t { right, left, down, up, ahead, back };
inline constexpr int kDirections = 6;

struct Link {
  int from = 0;  // rank in the group
  Direction direction = Direction::right;
};

inline int link_index(const Link& link) {
  return link.from * kDirections + static_cast<int>(link.direction);
}
inline int link_count(const GroupShape& shape) {
  return shape.size() * kDirections;  // with those that an end of a line does not have
}

// Appends the links of a message in their order: dimension by dimension, first along the row, then along the
// column, each the shortest way round; where both ways are as long, right, down or ahead.
void append_route(const GroupShape& shape, int from, int to, std::vector<Link>& links);

struct LinkTraffic {
  int most_messages = 0;        // on one link in one round
  int64_t array_chunks = 1;     // Plan::chunks
  std::vector<int64_t> chunks;  // by link_index, over all rounds

  double most_bytes(double array_bytes) const;  // over the busiest link
};

// Counted from the plans of all ranks.
LinkTraffic count_traffic(Algorithm algorithm, Operation operation, const GroupShape& shape, int root = 0);

// The same by the algorithm's formula, without playing anything; where it has none, it is counted. A
// broadcast is from rank 0.
int most_messages(Algorithm algorithm, Operation operation, const GroupShape& shape);
double most_link_bytes(Algorithm algorithm, Operation operation, const GroupShape& shape, double array_bytes);

}  // namespace toroid::schedule
