// The parts of Device that every device shares, on the plainest one.
#include "core/device/reference_device.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/op/elementwise.h"
#include "core/op/norm.h"

namespace toroid::testing {
namespace {

std::vector<float> read(Device& device, const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  device.read(tensor, std::as_writable_bytes(std::span(values)));
  return values;
}

Array vector_of(Device& device, const std::vector<float>& values, std::string_view holder) {
  Array out = device.array(DType::f32, {static_cast<int64_t>(values.size())}, holder);
  device.write(out.tensor, std::as_bytes(std::span(values)));
  return out;
}

TEST(ReferenceDevice, writes_launches_copies_and_reads) {
  ReferenceDevice device;
  const Array x = vector_of(device, {1, 2, 3}, "activations"),
              y = vector_of(device, {10, 20, 30}, "activations");
  device.launch(op::add(x.tensor, y.tensor));
  EXPECT_EQ(read(device, y.tensor), (std::vector<float>{11, 22, 33}));
  device.copy(x.tensor, y.tensor);
  EXPECT_EQ(read(device, x.tensor), (std::vector<float>{11, 22, 33}));
}

TEST(ReferenceDevice, counts_bytes_by_holder_at_the_peak) {
  ReferenceDevice device;
  const Buffer weights = device.allocate(100, "weights");
  {
    const Buffer a = device.allocate(1000, "activations");
    EXPECT_EQ(device.statistics().bytes_now, 1100);
  }
  const Buffer later = device.allocate(10, "activations");
  EXPECT_EQ(device.statistics().bytes_now, 110);
  EXPECT_EQ(device.statistics().bytes_peak, 1100);
  EXPECT_EQ(device.statistics().peak_by_holder.at("activations"), 1000);
  EXPECT_EQ(device.statistics().peak_by_holder.at("weights"), 100);
}

// All reference kernels but one.
std::shared_ptr<const DeviceKernels> kernels_without(const OpKind& kind) {
  auto all = std::make_shared<DeviceKernels>();
  add_reference_kernels(*all);
  auto some = std::make_shared<DeviceKernels>();
  for (const OpKind* other :
       {&op::residual_add_kind, &op::rms_norm_kind, &op::residual_norm_kind, &op::fill_kind}) {
    if (other != &kind) some->add(*other, *all->find(*other));
  }
  return some;
}

// A fused operator comes out alike on a device that has its kernel and on one that issues its parts.
TEST(ReferenceDevice, expands_a_kind_that_it_has_no_kernel_for) {
  ReferenceDevice fused, parts(kernels_without(op::residual_norm_kind));
  std::vector<std::vector<float>> results;
  for (ReferenceDevice* device : {&fused, &parts}) {
    const Array x = vector_of(*device, {1, 2, 3, 4}, "x"), f = vector_of(*device, {5, -6, 7, 8}, "f"),
                w = vector_of(*device, {0.5, -0.5}, "w"), mid = device->array(DType::f32, {2, 2}, "mid"),
                y = device->array(DType::f32, {2, 2}, "y"), rstd = device->array(DType::f32, {2}, "rstd"),
                rstd_post = device->array(DType::f32, {2}, "rstd");
    const int64_t before = device->statistics().launches;
    device->launch(op::residual_norm(x.tensor.reshape({2, 2}), f.tensor.reshape({2, 2}), w.tensor, w.tensor,
                                     mid.tensor, y.tensor, rstd.tensor, rstd_post.tensor, {}));
    EXPECT_EQ(device->statistics().launches - before, device == &fused ? 1 : 2);
    results.push_back(read(*device, y.tensor));
    results.push_back(read(*device, mid.tensor));
  }
  EXPECT_EQ(results[0], results[2]);
  EXPECT_EQ(results[1], results[3]);
}

TEST(ReferenceDevice, says_which_operator_it_cannot_run) {
  ReferenceDevice device(kernels_without(op::fill_kind));
  const Array x = vector_of(device, {1}, "x");
  EXPECT_THROW(device.launch(op::fill(x.tensor, {})), InternalError);
}

}  // namespace
}  // namespace toroid::testing
