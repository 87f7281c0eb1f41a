// The grammar of layouts: what is read, what it says of itself, and what is refused.
#include "train/certify/layout.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/mesh/mesh.h"

namespace toroid::train {
namespace {

TEST(Layouts, AreReadInOrder) {
  const auto list = parse_layouts("1x1; 2x2 ;pods 2 of 2x2;model 2 of 4x2; pods 2 of model 4 of 4x4 zero 1");
  ASSERT_EQ(list.size(), 5u);
  EXPECT_EQ(list[0], (Layout{1, 1, 1, 1, {}}));
  EXPECT_EQ(list[1], (Layout{1, 1, 2, 2, {}}));
  EXPECT_EQ(list[2], (Layout{2, 1, 2, 2, {}}));
  EXPECT_EQ(list[3], (Layout{1, 2, 4, 2, {}}));
  EXPECT_EQ(list[4], (Layout{2, 4, 4, 4, 1}));
  EXPECT_EQ(list[4].ranks(), 32);
  EXPECT_EQ(list[4].replicas(), 8);
}

TEST(Layouts, StagesRepeatTheItemBeforeThem) {
  const auto list = parse_layouts("4x1; zero 0, 1 ,2,3");
  ASSERT_EQ(list.size(), 5u);
  for (int stage = 0; stage < 4; ++stage) {
    EXPECT_EQ(list[static_cast<size_t>(stage) + 1], (Layout{1, 1, 4, 1, stage}));
  }
  const auto alone = parse_layouts("zero 2");
  ASSERT_EQ(alone.size(), 1u);
  EXPECT_EQ(alone[0], (Layout{1, 1, 2, 2, 2}));
}

TEST(Layouts, TextReadsBack) {
  const auto list = parse_layouts(
      "1x1; 16x16; pods 3 of 5x1; model 4 of 4x4; pods 2 of model 2 of 2x4 zero 0; 1x2 zero 3; zero 1");
  for (const Layout& layout : list) {
    const auto again = parse_layouts(layout.text());
    ASSERT_EQ(again.size(), 1u) << layout.text();
    EXPECT_EQ(again[0], layout) << layout.text();
  }
  EXPECT_EQ(list[4].text(), "pods 2 of model 2 of 2x4 zero 0");
}

TEST(Layouts, EmptyItemsMeanNothing) {
  EXPECT_EQ(parse_layouts(" 2x2;; ;\n1x1 ;"), parse_layouts("2x2;1x1"));
}

TEST(Layouts, ApplyReplacesTheMesh) {
  config::RunConfig run;
  run.mutable_mesh()->set_data(7);
  run.mutable_mesh()->add_placement(config::MeshConfig::DATA);
  run.mutable_zero()->set_stage(2);
  parse_layouts("pods 2 of model 2 of 4x2")[0].apply(run);
  const mesh::Mesh mesh(run.mesh());
  EXPECT_EQ(mesh.world_size(), 16);
  EXPECT_EQ(mesh.group(0, mesh::Axis::data).ranks.size(), 4u);
  EXPECT_EQ(mesh.group(0, mesh::Axis::model).ranks.size(), 2u);
  EXPECT_EQ(mesh.group(0, mesh::Axis::pod).ranks.size(), 2u);
  EXPECT_EQ(run.zero().stage(), 2) << "no stage is given";
  parse_layouts("1x1 zero 0")[0].apply(run);
  EXPECT_EQ(run.zero().stage(), 0);
}

struct Refused {
  const char *list, *item, *why;
};

class MalformedLayouts : public ::testing::TestWithParam<Refused> {};

TEST_P(MalformedLayouts, AreRefusedByName) {
  const Refused& c = GetParam();
  try {
    (void)parse_layouts(c.list);
    FAIL() << c.list << " is read";
  } catch (const UserError& error) {
    const std::string text = error.what();
    EXPECT_NE(text.find("'" + std::string(c.item) + "'"), std::string::npos) << text;
    EXPECT_NE(text.find(c.why), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, MalformedLayouts,
    ::testing::Values(
        Refused{"", "", "there is no layout"}, Refused{" ; ", " ; ", "there is no layout"},
        Refused{"1x1; 2", "2", "where ROWSxCOLUMNS should be"},
        Refused{"2X2", "2X2", "where ROWSxCOLUMNS should be"},
        Refused{"2x2x2", "2x2x2", "'2x2' where a number from 1 to 1024"},
        Refused{"2x", "2x", "'' where a number"}, Refused{"x2", "x2", "'' where a number"},
        Refused{"0x2", "0x2", "'0' where a number"}, Refused{"-1x2", "-1x2", "'-1' where a number"},
        Refused{"1025x1", "1025x1", "'1025' where a number"},
        Refused{"99999999999x1", "99999999999x1", "'99999999999' where a number"},
        Refused{"1024x1024", "1024x1024", "more than 4096 ranks"},
        Refused{"pods 1024 of 1024x1024", "pods 1024 of 1024x1024", "more than 4096 ranks"},
        Refused{"pods 2 2x2", "pods 2 2x2", "no `of` after its number of pods"},
        Refused{"pods of 2x2", "pods of 2x2", "'of' where a number"},
        Refused{"pods", "pods", "ends where a number should be"},
        Refused{"pods 2 of", "pods 2 of", "ends where ROWSxCOLUMNS should be"},
        Refused{"pods 2 of model 2 of", "pods 2 of model 2 of", "ends where ROWSxCOLUMNS"},
        Refused{"model 2 of pods 2 of 2x2", "model 2 of pods 2 of 2x2", "'pods' where ROWSxCOLUMNS"},
        Refused{"model 3 of 2x2", "model 3 of 2x2", "4 chips a pod, which 3 model ranks do not divide"},
        Refused{"model 8 of 2x2", "model 8 of 2x2", "8 model ranks do not divide"},
        Refused{"2x2 zero", "2x2 zero", "ends where a stage should be"},
        Refused{"2x2 zero 4", "2x2 zero 4", "'4' where a number from 0 to 3"},
        Refused{"2x2 zero 1,2", "2x2 zero 1,2", "'1,2' where a number"},
        Refused{"2x2 zero 1 more", "2x2 zero 1 more", "goes on with 'more'"},
        Refused{"2x2 2x2", "2x2 2x2", "goes on with '2x2'"}, Refused{"zero", "zero", "'' where a number"},
        Refused{"2x2; zero 0,,1", "zero 0,,1", "'' where a number"},
        Refused{"zero 0 3", "zero 0 3", "'0 3' where a number"}, Refused{"zero 1,", "zero 1,", "'' where"},
        Refused{"torus 2x2", "torus 2x2", "'torus' where ROWSxCOLUMNS"}));

}  // namespace
}  // namespace toroid::train
