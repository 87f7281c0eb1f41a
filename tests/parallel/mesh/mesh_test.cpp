#include "parallel/mesh/mesh.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "parallel/mesh/check.h"
#include "parallel/mesh/mesh.pb.h"
#include "parallel/schedule/links.h"

namespace toroid::mesh {
namespace {

Mesh mesh_of(const std::string& text) {
  config::MeshConfig config;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &config)) << text;
  return Mesh(config);
}

std::string refusal(const std::string& text) {
  try {
    mesh_of(text);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

std::vector<int> sizes(const Mesh& mesh) {
  std::vector<int> out;
  for (const Mesh::Dimension& dimension : mesh.torus()) out.push_back(dimension.size);
  return out;
}

using Ints = std::vector<int>;

void expect_shape(const schedule::GroupShape& shape, int rows, int columns) {
  EXPECT_EQ(shape.rows, rows);
  EXPECT_EQ(shape.columns, columns);
}

TEST(Mesh, without_a_config_is_one_chip) {
  const Mesh mesh = mesh_of("");
  EXPECT_EQ(mesh.world_size(), 1);
  const RankGroups groups = mesh.groups(0);
  EXPECT_EQ(groups.data.ranks, Ints{0});
  EXPECT_EQ(groups.model.ranks, Ints{0});
  EXPECT_EQ(groups.pod.ranks, Ints{0});
}

TEST(Mesh, data_256_uses_the_whole_torus) {
  const Mesh mesh = mesh_of("torus: [16, 16] data: 256");
  expect_shape(mesh.shape(Axis::data), 16, 16);
  expect_shape(mesh.shape(Axis::model), 1, 1);
  EXPECT_EQ(mesh.groups(37).data.index, 37);
  EXPECT_EQ(mesh.groups(37).data.ranks.size(), 256u);
}

TEST(Mesh, data_16_model_16_take_one_dimension_each) {
  const Mesh mesh = mesh_of("torus: [16, 16] data: 16 model: 16");
  expect_shape(mesh.shape(Axis::data), 1, 16);
  expect_shape(mesh.shape(Axis::model), 1, 16);
  EXPECT_TRUE(mesh.shape(Axis::model).wrap_columns);
  const RankGroups groups = mesh.groups(2 * 16 + 3);
  EXPECT_EQ(groups.model.ranks.front(), 32);  // a row
  EXPECT_EQ(groups.model.ranks.back(), 47);
  EXPECT_EQ(groups.model.index, 3);
  EXPECT_EQ(groups.data.ranks[1], 19);  // a column
  EXPECT_EQ(groups.data.index, 2);
}

TEST(Mesh, the_model_axis_may_take_a_part_of_a_dimension) {
  Mesh mesh = mesh_of("pods: 2 torus: [4, 4] data: 8 model: 2");
  expect_shape(mesh.shape(Axis::data), 4, 2);
  expect_shape(mesh.shape(Axis::model), 1, 2);
  expect_shape(mesh.shape(Axis::pod), 1, 2);
  const RankGroups groups = mesh.groups(16 + 6);  // row 1, column 2 of the second pod
  EXPECT_EQ(groups.model.ranks, (Ints{22, 23}));
  EXPECT_EQ(groups.data.ranks, (Ints{16, 18, 20, 22, 24, 26, 28, 30}));
  EXPECT_EQ(groups.pod.ranks, (Ints{6, 22}));
  EXPECT_EQ(groups.pod.index, 1);
  EXPECT_EQ(mesh.text(22), "rank 22 (pod 1, torus 1 2, data 3, model 0)");
  EXPECT_EQ(mesh.text(), "pods 2 x torus 4 x 4, data 8, model 2");
  // More chips than the last dimension: the rest comes from the next.
  const Mesh larger = mesh_of("torus: [4, 4] data: 2 model: 8");
  expect_shape(larger.shape(Axis::model), 2, 4);
  EXPECT_FALSE(larger.shape(Axis::model).wrap_rows);  // two rows of four: a run, not a ring
  EXPECT_TRUE(larger.shape(Axis::model).wrap_columns);
  expect_shape(larger.shape(Axis::data), 1, 2);
}

TEST(Mesh, links_close_a_ring_where_the_chip_says_so) {
  Mesh mesh = mesh_of("torus: [8, 16] data: 128");
  mesh.set_wraps(0, false);
  EXPECT_FALSE(mesh.shape(Axis::data).wrap_rows);
  EXPECT_TRUE(mesh.shape(Axis::data).wrap_columns);
}

TEST(Mesh, placement_gives_dimensions_to_axes) {
  const Mesh mesh = mesh_of("torus: [3, 5] data: 5 model: 3 placement: [MODEL, DATA]");
  const RankGroups groups = mesh.groups(7);
  EXPECT_EQ(groups.model.ranks, (Ints{2, 7, 12}));
  EXPECT_EQ(groups.data.ranks, (Ints{5, 6, 7, 8, 9}));
  EXPECT_EQ(sizes(mesh_of("data: 5 model: 3 placement: [MODEL, DATA]")), (Ints{3, 5}));
}

TEST(Mesh, a_group_has_the_dimensions_of_its_axis) {
  const Mesh mesh = mesh_of("torus: [2, 3, 4] data: 24");
  expect_shape(mesh.shape(Axis::data), 3, 4);
  EXPECT_EQ(mesh.shape(Axis::data).planes, 2);
  EXPECT_EQ(mesh.groups(17).data.index, 17) << "ranks of a shape count as those of the torus";
  const Mesh split = mesh_of("torus: [2, 3, 4] data: 6 model: 4");
  expect_shape(split.shape(Axis::data), 2, 3);
}

TEST(Mesh, a_torus_that_is_left_out_is_nearly_square) {
  EXPECT_EQ(sizes(mesh_of("data: 256")), (Ints{16, 16}));
  EXPECT_EQ(sizes(mesh_of("data: 16 model: 16")), (Ints{16, 16}));
  EXPECT_EQ(sizes(mesh_of("data: 4")), (Ints{2, 2}));
  EXPECT_EQ(sizes(mesh_of("data: 8")), (Ints{2, 4}));
  EXPECT_EQ(sizes(mesh_of("data: 8 model: 2")), (Ints{8, 2}));
  EXPECT_EQ(sizes(mesh_of("data: 64 model: 4")), (Ints{16, 16}));
  EXPECT_EQ(sizes(mesh_of("data: 13")), (Ints{1, 13}));
}

TEST(Mesh, rank_and_coordinate_are_inverse_and_groups_agree) {
  for (const char* text :
       {"", "data: 13", "torus: [4, 4] data: 8 model: 2", "pods: 3 torus: [2, 6] data: 4 model: 3",
        "torus: [2, 3, 4] data: 3 model: 8 placement: [MODEL, DATA, MODEL]", "pods: 2 torus: [8, 8] data: 64",
        "torus: [4, 4] data: 2 model: 8", "torus: 12 data: 4 model: 3"}) {
    const Mesh mesh = mesh_of(text);
    for (int rank = 0; rank < mesh.world_size(); ++rank) {
      const Coordinate at = mesh.coordinate(rank);
      ASSERT_EQ(mesh.rank(at), rank) << text;
      ASSERT_EQ(mesh.rank(at.pod, at.data, at.model), rank) << text;
      ASSERT_EQ(at.pod, rank / mesh.pod_size()) << "the ranks of a pod are contiguous";
      for (const Axis axis : kAxes) {
        const Group group = mesh.group(rank, axis);
        ASSERT_EQ(group.ranks.at(static_cast<size_t>(group.index)), rank) << text;
        ASSERT_EQ(static_cast<int>(group.ranks.size()), group.shape.size()) << text;
        ASSERT_EQ(std::set<int>(group.ranks.begin(), group.ranks.end()).size(), group.ranks.size());
        // All members see the same group.
        for (const int member : group.ranks) ASSERT_EQ(mesh.group(member, axis).ranks, group.ranks) << text;
      }
    }
  }
}

TEST(Mesh, states_the_relation_that_failed) {
  EXPECT_EQ(refusal("torus: [4, 4] data: 4 model: 2"),
            "mesh.data (4) x mesh.model (2) is not the number of chips of mesh.torus (4 x 4)");
  EXPECT_EQ(refusal("torus: [4, 4]"),
            "mesh.data (1) x mesh.model (1) is not the number of chips of mesh.torus (4 x 4)");
  EXPECT_NE(refusal("torus: [3, 5] data: 5 model: 3").find("mesh.model (3) is neither whole dimensions"),
            std::string::npos);
  EXPECT_EQ(refusal("torus: [3, 5] data: 5 model: 3 placement: [DATA, MODEL]"),
            "mesh.placement gives the model axis 5 chips of mesh.torus (3 x 5), but mesh.model is 3");
  EXPECT_EQ(refusal("torus: [3, 5] data: 15 placement: [MODEL]"),
            "mesh.placement has 1 entries, but mesh.torus (3 x 5) has 2 dimensions");
  EXPECT_NE(refusal("pods: 1048576 data: 1048576 model: 1048576").find("is more than 1048576 ranks"),
            std::string::npos);
  EXPECT_NE(refusal("pods: 0").find("mesh.pods is 0"), std::string::npos);
  EXPECT_NE(refusal("torus: [2, -2] data: 1").find("mesh.torus[1] is -2"), std::string::npos);
  EXPECT_NE(refusal("torus: [1, 1, 1, 1]").find("4 dimensions; at most 3"), std::string::npos);
}

// Summed over all ranks, messages times hops are what the links of the schedule carry.
TEST(Mesh, counts_the_hops_that_a_message_takes) {
  Mesh mesh = mesh_of("pods: 2 torus: [4, 5] data: 20");
  EXPECT_EQ(mesh.hops(0, 0), (std::vector<int>{0, 0}));
  EXPECT_EQ(mesh.hops(0, 19), (std::vector<int>{1, 1}));  // round the corner both ways
  EXPECT_EQ(mesh.hops(20 + 12, 20), (std::vector<int>{2, 2}));
  mesh.set_wraps(1, false);
  EXPECT_EQ(mesh.hops(0, 19), (std::vector<int>{1, 4}));
  using schedule::Algorithm;
  for (const Algorithm algorithm : {Algorithm::ring, Algorithm::torus, Algorithm::direct}) {
    const schedule::GroupShape shape = mesh.shape(Axis::data);
    const auto traffic = schedule::count_traffic(algorithm, schedule::Operation::all_reduce, shape);
    int64_t down = 0, along = 0;  // chunks on links of dimension 0 and of dimension 1
    for (size_t link = 0; link < traffic.chunks.size(); ++link) {
      const auto direction = static_cast<schedule::Direction>(link % schedule::kDirections);
      const bool row = direction == schedule::Direction::right || direction == schedule::Direction::left;
      (row ? along : down) += traffic.chunks[link];
    }
    for (int rank = 0; rank < mesh.pod_size(); ++rank) {
      const auto plan = schedule::plan(algorithm, schedule::Operation::all_reduce, shape, rank);
      for (const schedule::Move& move : plan.moves) {
        if (move.receive) continue;
        const std::vector<int> hops = mesh.hops(rank, move.peer);
        down -= move.chunks() * hops[0];
        along -= move.chunks() * hops[1];
      }
    }
    EXPECT_EQ(down, 0) << schedule::name(algorithm);
    EXPECT_EQ(along, 0) << schedule::name(algorithm);
  }
}

}  // namespace
}  // namespace toroid::mesh
