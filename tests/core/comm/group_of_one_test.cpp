// The contract of Communicator on the smallest group: a result is the operand's, nothing is issued, nothing
// is waited for, and callers never branch on the size.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/comm/communicator.h"
#include "core/device/reference_device.h"
#include "tests/core/op/workbench.h"

namespace toroid::testing {
namespace {

class GroupOfOne : public ::testing::Test {
 protected:
  Array array(const std::vector<float>& values) {
    Array out = device_.array(DType::f32, {static_cast<int64_t>(values.size()) / 2, 2}, "operand");
    device_.write(out.tensor, std::as_bytes(std::span(values)));
    return out;
  }

  ReferenceDevice device_;
  std::unique_ptr<Communicator> one_ = make_group_of_one();
  const CollectiveLabel label_{"a tensor"};
};

TEST_F(GroupOfOne, hands_the_same_memory_on) {
  Array in = array({1, 2, 3, 4});
  const Block* const block = in.tensor.block;
  Array gathered = one_->all_gather(std::move(in), label_);
  EXPECT_EQ(gathered.tensor.block, block);
  EXPECT_TRUE(gathered.owner) << "who owned the operand owns the result";
  const Array scattered = one_->reduce_scatter(std::move(gathered), Wire::bf16, label_);
  EXPECT_EQ(scattered.tensor.block, block);
  EXPECT_EQ(scattered.tensor.shape, (Shape{2, 2}));
  EXPECT_EQ(scattered.tensor.as<float>()[3], 4) << "nothing travels, so nothing is rounded";
  EXPECT_EQ(one_->own(scattered.tensor).block, block);

  // A borrowed operand stays borrowed.
  EXPECT_FALSE(one_->all_gather({scattered.tensor, Buffer()}, label_).owner);
}

TEST_F(GroupOfOne, leaves_what_is_reduced_in_place_alone) {
  const Array x = array({1.0000001f, -2, 3, 4});
  const std::vector<std::byte> before = bytes_in(x.tensor);
  for (const Combine combine : {Combine::sum, Combine::max}) {
    for (const Wire wire : {Wire::exact, Wire::bf16}) one_->all_reduce(x.tensor, combine, wire, label_);
  }
  one_->broadcast(x.tensor, 0, label_);
  EXPECT_EQ(bytes_in(x.tensor), before);
}

TEST_F(GroupOfOne, has_no_peer) {
  const Array x = array({1, 2}), y = array({3, 4});
  EXPECT_THROW(one_->send(x.tensor, 0, label_), InternalError);
  EXPECT_THROW(one_->receive(x.tensor, 0, label_), InternalError);
  EXPECT_THROW(one_->all_to_all(x.tensor, y.tensor, label_), InternalError);
}

TEST_F(GroupOfOne, is_the_first_of_one_and_sends_the_compute_type) {
  EXPECT_EQ(one_->place().rank, 0);
  EXPECT_EQ(one_->place().size, 1);
  EXPECT_EQ(one_->wire_type(DType::bf16, DType::f32), DType::bf16);
  EXPECT_EQ(one_->wire_type(DType::f32, DType::f64), DType::f32);
  EXPECT_FALSE(one_->axis().empty());
}

// Everybody is there already.
TEST_F(GroupOfOne, waits_for_nobody) {
  const Event event = one_->barrier(label_);
  EXPECT_NO_THROW(device_.synchronize(event, Seconds(0)));
  EXPECT_EQ(event.ticket, 0u);
}

}  // namespace
}  // namespace toroid::testing
