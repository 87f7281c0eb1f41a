// What schedules put on the links of a torus, counted and as the formulas say.
#include "parallel/schedule/links.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "parallel/schedule/moves.h"
#include "tests/parallel/schedule/shapes.h"

namespace toroid::test {
namespace {

using schedule::Algorithm;
using schedule::Direction;
using schedule::GroupShape;
using schedule::Link;
using schedule::Operation;

int hops(const GroupShape& shape, int from, int to) {
  std::vector<Link> links;
  append_route(shape, from, to, links);
  return static_cast<int>(links.size());
}

int steps(int from, int to, int size, bool wrap) {
  const int straight = std::abs(to - from);
  return schedule::is_ring(size, wrap) ? std::min(straight, size - straight) : straight;
}

TEST(Links, routes_are_shortest_and_connected) {
  for (const GroupShape& shape :
       {GroupShape{4, 4}, GroupShape{5, 3, false, true}, GroupShape{2, 7, true, false}, GroupShape{1, 6},
        GroupShape{6, 1, false, false}, GroupShape{3, 4, true, false, 5, true},
        GroupShape{2, 3, true, true, 4, false}}) {
    for (int from = 0; from < shape.size(); ++from) {
      for (int to = 0; to < shape.size(); ++to) {
        std::vector<Link> links;
        append_route(shape, from, to, links);
        const int expected =
            steps(from % shape.columns, to % shape.columns, shape.columns, shape.wrap_columns) +
            steps(from / shape.columns % shape.rows, to / shape.columns % shape.rows, shape.rows,
                  shape.wrap_rows) +
            steps(from / shape.columns / shape.rows, to / shape.columns / shape.rows, shape.planes,
                  shape.wrap_planes);
        ASSERT_EQ(static_cast<int>(links.size()), expected);
        int plane = from / shape.columns / shape.rows;
        int row = from / shape.columns % shape.rows;
        int column = from % shape.columns;
        const auto rank = [&] { return (plane * shape.rows + row) * shape.columns + column; };
        for (const Link& link : links) {
          ASSERT_EQ(link.from, rank());
          const bool along_row = link.direction == Direction::right || link.direction == Direction::left;
          const bool along_column = link.direction == Direction::down || link.direction == Direction::up;
          int& position = along_row ? column : along_column ? row : plane;
          const int size = along_row ? shape.columns : along_column ? shape.rows : shape.planes;
          const bool wrap = along_row      ? shape.wrap_columns
                            : along_column ? shape.wrap_rows
                                           : shape.wrap_planes;
          const bool onward = link.direction == Direction::right || link.direction == Direction::down ||
                              link.direction == Direction::ahead;
          position += onward ? 1 : -1;
          if (schedule::is_ring(size, wrap)) position = (position + size) % size;
          ASSERT_TRUE(position >= 0 && position < size) << "a link that a line does not have";
        }
        ASSERT_EQ(rank(), to);
      }
    }
  }
}

TEST(Links, ring_neighbours_are_torus_neighbours) {
  for (const GroupShape& shape : all_shapes(256)) {
    const schedule::RingOrder order = ring_order(shape);
    std::vector<int> seen(order.ranks);
    std::sort(seen.begin(), seen.end());
    for (int i = 0; i < shape.size(); ++i) ASSERT_EQ(seen[static_cast<size_t>(i)], i);
    for (size_t i = 1; i < order.ranks.size(); ++i)
      ASSERT_EQ(hops(shape, order.ranks[i - 1], order.ranks[i]), 1);
    if (order.closed) {
      ASSERT_EQ(hops(shape, order.ranks.back(), order.ranks.front()), 1);
    }
  }
}

// The claim of the whole folder: counted traffic is what the formulas say.
TEST(Links, counted_traffic_is_what_the_formulas_say) {
  for (const GroupShape& shape : all_shapes()) {
    for (const Algorithm algorithm : all_algorithms()) {
      for (const Operation operation : kOperations) {
        if (!serves(algorithm, operation, shape) || repeats_two_others(operation, shape)) continue;
        const schedule::LinkTraffic traffic = count_traffic(algorithm, operation, shape);
        ASSERT_EQ(traffic.most_messages, most_messages(algorithm, operation, shape))
            << text_of(algorithm, operation, shape);
        ASSERT_NEAR(traffic.most_bytes(1e6), most_link_bytes(algorithm, operation, shape, 1e6), 1e-3)
            << text_of(algorithm, operation, shape);
      }
    }
  }
}

// Against numbers worked out by hand, lest formula and count share an error.
TEST(Links, known_bytes) {
  const GroupShape pod{16, 16};
  const auto bytes = [](Algorithm algorithm, Operation operation, const GroupShape& shape) {
    return most_link_bytes(algorithm, operation, shape, 1024);
  };
  EXPECT_DOUBLE_EQ(bytes(Algorithm::ring, Operation::all_gather, pod), 1020);               // 255/256
  EXPECT_DOUBLE_EQ(bytes(Algorithm::bidirectional_ring, Operation::all_gather, pod), 510);  // half of it
  EXPECT_DOUBLE_EQ(bytes(Algorithm::torus, Operation::all_gather, pod), 255);               // a quarter
  EXPECT_DOUBLE_EQ(bytes(Algorithm::torus, Operation::all_reduce, pod), 510);
  EXPECT_DOUBLE_EQ(bytes(Algorithm::torus, Operation::all_gather, {4, 4, true, true, 4, true}),
                   168);  // 63/64/6
  const GroupShape line{1, 8, true, false};
  EXPECT_DOUBLE_EQ(bytes(Algorithm::bidirectional_ring, Operation::all_gather, line), 896);   // 7/8
  EXPECT_DOUBLE_EQ(bytes(Algorithm::bidirectional_ring, Operation::all_reduce, line), 1024);  // 8/8
  const GroupShape ring{1, 4};
  EXPECT_DOUBLE_EQ(bytes(Algorithm::direct, Operation::all_to_all, ring), 768);  // 3 messages of a quarter
  EXPECT_EQ(most_messages(Algorithm::direct, Operation::all_gather, ring), 3);   // from 1 hop, 2 of 2 hops
  EXPECT_EQ(most_messages(Algorithm::halving_doubling, Operation::all_gather, pod), 8);
}

// On a wrapped cube all links of the three dimensions carry the same.
TEST(Links, torus_uses_all_six_links_alike) {
  for (const int side : {3, 4, 5}) {
    const GroupShape shape{side, side, true, true, side, true};
    const schedule::LinkTraffic traffic = count_traffic(Algorithm::torus, Operation::all_gather, shape);
    const auto [least, most] = std::minmax_element(traffic.chunks.begin(), traffic.chunks.end());
    EXPECT_EQ(*least, *most) << side;
    EXPECT_EQ(*most, side * side * side - 1) << side;  // of 6 n chunks
  }
}

// On a wrapped square torus all links of both dimensions carry the same.
TEST(Links, torus_uses_all_four_links_alike) {
  for (const int side : {3, 4, 8, 16}) {
    const GroupShape shape{side, side};
    const schedule::LinkTraffic traffic = count_traffic(Algorithm::torus, Operation::all_gather, shape);
    std::vector<int64_t> in_plane;  // by link_index, without the links between planes
    for (size_t link = 0; link < traffic.chunks.size(); ++link) {
      if (static_cast<Direction>(link % schedule::kDirections) < Direction::ahead)
        in_plane.push_back(traffic.chunks[link]);
    }
    const auto [least, most] = std::minmax_element(in_plane.begin(), in_plane.end());
    EXPECT_EQ(*least, *most) << side;
    EXPECT_EQ(*most, side * side - 1) << side;  // of 4 n chunks
  }
}

}  // namespace
}  // namespace toroid::test
