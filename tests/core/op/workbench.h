// Operands for tests of operators: host memory without a device, filled from a seed, so that two workbenches
// on which the same calls are made hold the same numbers.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device/block.h"
#include "core/device/device_kernels.h"
#include "core/op/op.h"

namespace toroid::testing {

// Host memory behind one tensor. Everything around the tensor's elements is guarded: writing there is found.
class HostTensor {
 public:
  // `row_stride` 0: dense. The memory starts as NaN.
  HostTensor(DType type, Shape shape, int64_t row_stride = 0, Layout layout = Layout::plain,
             int64_t bytes = -1);
  Tensor tensor() const;
  // True as long as every byte that belongs to no element is as it was made.
  bool guards_intact() const;

 private:
  Tensor tensor_;
  std::unique_ptr<Block> block_;  // tensors point to it
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
  size_t bytes_;
};

class Workbench {
 public:
  // Weights are packed by the kernels of `kernels`; the reference ones where it is null.
  explicit Workbench(const DeviceKernels* kernels = nullptr, uint64_t seed = 1)
      : kernels_(kernels), seed_(seed) {}

  // Contents NaN: an operand that a kernel must write whole.
  Tensor output(DType type, Shape shape, int64_t row_stride = 0);
  Tensor normal(DType type, Shape shape, double stddev = 1, int64_t row_stride = 0);
  Tensor uniform(DType type, Shape shape, double low, double high);
  Tensor filled(DType type, Shape shape, std::span<const double> values);
  Tensor filled(DType type, Shape shape, std::initializer_list<double> values) {
    return filled(type, shape, std::span(values.begin(), values.size()));
  }
  Tensor integers(Shape shape, std::span<const int64_t> values);
  Tensor integers(Shape shape, int64_t first, int64_t last);  // random in [first, last]
  // The matrix in the layout of the kernels' matrix unit.
  Tensor packed(const Tensor& plain, Layout layout);
  Tensor packed(std::span<const Tensor> parts, DType type, Layout layout);  // stacked

  // The numbers of `call` at work: by the registry's kernel, or by the reference where it has none.
  void run(const Call& call, int threads = 1) const;

  bool guards_intact() const;

 private:
  Tensor keep(std::unique_ptr<HostTensor> tensor);
  double draw();

  const DeviceKernels* kernels_;
  uint64_t seed_;
  uint64_t drawn_ = 0;
  std::deque<std::unique_ptr<HostTensor>> tensors_;
};

// A copy of the bytes of the elements, for comparisons bit by bit.
std::vector<std::byte> bytes_in(const Tensor& tensor);

}  // namespace toroid::testing
