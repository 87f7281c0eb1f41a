// What layers issue for a product, on a group of one, and that a context stamps what it issues.
#include "core/model/product.h"

#include <gtest/gtest.h>

#include "core/device/sim/recording_device.h"
#include "tests/core/model/tiny_decoder.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

std::vector<std::string_view> launched(const RecordingDevice& device) {
  std::vector<std::string_view> out;
  for (const Record& record : device.records()) {
    if (record.kind == Record::Kind::launch) out.push_back(record.op);
  }
  return out;
}

using Ops = std::vector<std::string_view>;

class Products : public ::testing::Test {
 protected:
  Products() : context_{device_, *one_, DType::bf16, {}, Phase::backward} {}
  Tensor array(DType type, Shape shape, Layout layout = Layout::plain) {
    arrays_.push_back(device_.array(type, shape, "operand", layout));
    return arrays_.back().tensor;
  }

  RecordingDevice device_{primitive_kernels()};
  std::unique_ptr<Communicator> one_ = make_group_of_one();
  Context context_;
  std::vector<Array> arrays_;
};

// Neighbours in memory are one product; others, or those that differ in being fresh, are not.
TEST_F(Products, gradients_that_are_neighbours_are_one_product) {
  const Tensor dy = array(DType::bf16, {10, 9}), x = array(DType::bf16, {10, 6}),
               whole = array(DType::f32, {9, 6});
  const auto gradients = [&](bool last_fresh) {
    return std::vector<Gradient>{
        {whole.slice_rows(0, 4), true}, {whole.slice_rows(4, 3), true}, {whole.slice_rows(7, 2), last_fresh}};
  };
  std::vector<Gradient> all = gradients(true);
  weight_gradient(context_, dy, x, all);
  EXPECT_EQ(launched(device_), Ops{"matmul_dw"});
  for (const Gradient& gradient : all) EXPECT_FALSE(gradient.fresh);

  device_.clear();
  all = gradients(false);
  weight_gradient(context_, dy, x, all);
  EXPECT_EQ(launched(device_), (Ops{"matmul_dw", "matmul_dw"}));

  device_.clear();
  all = {{array(DType::f32, {4, 6}), true}, {array(DType::f32, {5, 6}), true}};
  weight_gradient(context_, dy, x, all);
  EXPECT_EQ(launched(device_), (Ops{"matmul_dw", "matmul_dw"}));
}

TEST_F(Products, a_fresh_gradient_is_cleared_once) {
  Gradient gradient{array(DType::f32, {6}), true};
  begin_adding(context_, gradient);
  begin_adding(context_, gradient);
  EXPECT_EQ(launched(device_), Ops{"fill"});
  EXPECT_FALSE(gradient.fresh);
}

TEST_F(Products, a_group_of_one_rounds_as_it_multiplies) {
  const Tensor x = array(DType::bf16, {5, 6}), w = array(DType::bf16, {4, 6}, Layout::packed_forward);
  const ForwardTerm term{x, w};
  const Array y = contract(context_, {&term, 1}, 1, "y", "test");
  EXPECT_EQ(launched(device_), Ops{"matmul"});
  EXPECT_EQ(y.tensor.type, DType::bf16);
  EXPECT_EQ(y.tensor.shape, (Shape{5, 4}));
  EXPECT_EQ(gather_rows(context_, x, "x").tensor.block, x.block) << "borrowed";
}

TEST_F(Products, what_is_added_up_is_rounded_once) {
  const ForwardTerm a{array(DType::bf16, {5, 6}), array(DType::bf16, {4, 6}, Layout::packed_forward)},
      b{array(DType::bf16, {5, 8}), array(DType::bf16, {4, 8}, Layout::packed_forward)};
  const std::vector<ForwardTerm> terms{a, b};
  const Array y = contract(context_, terms, 1, "y", "test");
  EXPECT_EQ(launched(device_), (Ops{"matmul", "matmul", "cast"}));
  EXPECT_EQ(y.tensor.type, DType::bf16);
  EXPECT_EQ(y.tensor.shape, (Shape{5, 4}));
}

// Deterministic mode keeps the trees of stacked matrices apart and rounds their sum once.
TEST_F(Products, stacked_matrices_are_trees_of_their_own_in_deterministic_mode) {
  const Tensor dy = array(DType::bf16, {5, 8}), w = array(DType::bf16, {8, 6}, Layout::packed_backward);
  PackedMatrix packed{{}, w, {}};
  const std::vector<BackwardTerm::Matrix> matrices{{4, 4}, {4, 4}};
  const BackwardTerm term{dy, packed, matrices};
  Array dx = rounded(context_, contract_backward(context_, {&term, 1}, "dx"), "test");
  EXPECT_EQ(launched(device_), Ops{"matmul_dx"});
  EXPECT_EQ(dx.tensor.type, DType::bf16);
  device_.clear();
  context_.tiles.deterministic = true;
  packed.backward_parts = {array(DType::bf16, {4, 6}, Layout::packed_backward),
                           array(DType::bf16, {4, 6}, Layout::packed_backward)};
  dx = rounded(context_, contract_backward(context_, {&term, 1}, "dx"), "test");
  EXPECT_EQ(launched(device_), (Ops{"matmul_dx", "matmul_dx", "cast"}));
  EXPECT_EQ(dx.tensor.type, DType::bf16);
}

TEST_F(Products, a_context_stamps_its_phase) {
  Gradient gradient{array(DType::f32, {6}), true};
  device_.clear();
  begin_adding(context_, gradient);
  ASSERT_EQ(device_.records().size(), 1u);
  EXPECT_EQ(device_.records()[0].phase, Phase::backward);
}

}  // namespace
}  // namespace toroid::testing
