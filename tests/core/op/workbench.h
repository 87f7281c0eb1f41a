// Operands for tests of operators: host memory, filled from a seed, so that two workbenches on which the same
// calls are made hold the same numbers. A device that does not work on host memory gets a copy for each call.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/device/device.h"

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
  const Block* block() const { return block_.get(); }
  // All of its memory: guards, the elements from byte kGuard on, and guards.
  std::span<std::byte> memory() const { return {memory_.get(), whole_}; }
  static constexpr size_t kGuard = 128;

 private:
  Tensor tensor_;
  std::unique_ptr<Block> block_;  // tensors point to it
  std::unique_ptr<std::byte, void (*)(void*)> memory_;
  size_t bytes_, whole_;
};

// Devices of one kind, one for each number of threads, made when first asked for. Kernels that take any host
// memory are run on the bench itself, where their workspace is guarded like their operands.
class Devices {
 public:
  using Make = std::function<std::unique_ptr<Device>(int threads)>;
  explicit Devices(Make make, bool kernels_take_host_memory = false)
      : make_(std::move(make)), kernels_take_host_memory_(kernels_take_host_memory) {}
  Device& with(int threads);
  bool kernels_take_host_memory() const { return kernels_take_host_memory_; }

 private:
  Make make_;
  bool kernels_take_host_memory_;
  std::map<int, std::unique_ptr<Device>> devices_;
};

class Workbench {
 public:
  // Weights are packed by the kernels of `kernels`; the reference ones where it is null.
  explicit Workbench(const KernelRegistry* kernels = nullptr, uint64_t seed = 1)
      : kernels_(kernels), seed_(seed) {}
  // Everything runs on `devices`, which outlive this.
  explicit Workbench(Devices& devices, uint64_t seed = 1) : devices_(&devices), seed_(seed) {}

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

  // The numbers of `call` at work: by the registry's kernel, or by the reference where it has none; on a
  // device as the device does it.
  void run(const Call& call, int threads = 1) const;

  bool guards_intact() const;

 private:
  Tensor keep(std::unique_ptr<HostTensor> tensor);
  double draw();
  const HostTensor& owner_of(const Block* block) const;
  void run_kernel(const Kernel& kernel, const Call& call, int threads) const;
  void run_on(Device& device, const Call& call) const;

  const KernelRegistry* kernels_ = nullptr;
  Devices* devices_ = nullptr;
  uint64_t seed_;
  uint64_t drawn_ = 0;
  std::deque<std::unique_ptr<HostTensor>> tensors_;
};

// The reference kernels of the primitive kinds: a device that has to expand all the others.
std::shared_ptr<KernelRegistry> primitive_kernels();

// A copy of the bytes of the elements, for comparisons bit by bit.
std::vector<std::byte> bytes_in(const Tensor& tensor);

}  // namespace toroid::testing
