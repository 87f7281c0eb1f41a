// A device on the stand-in, numbers in it, and collectives that last as long as a test wants.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/device/cuda/cuda_device.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"

namespace toroid::testing {

inline CudaDevice::Options small_gpu() {
  CudaDevice::Options options;
  options.bytes = int64_t{16} << 20;
  options.staging_bytes = 8192;
  return options;
}

inline std::vector<float> read(Device& device, const Tensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.elements()));
  device.read(tensor, std::as_writable_bytes(std::span(values)));
  return values;
}

inline Array vector_of(Device& device, const std::vector<float>& values) {
  Array out = device.array(DType::f32, {static_cast<int64_t>(values.size())}, "test");
  device.write(out.tensor, std::as_bytes(std::span(values)));
  return out;
}

// A collective that a library carries out on a stream.
class OnStream final : public Transfer {
 public:
  explicit OnStream(std::function<void()> work) : work_(std::move(work)) {}
  bool put_on(void* stream) override {
    stand_in::enqueue(static_cast<cudaStream_t>(stream), work_);
    return true;
  }
  bool advance() override { throw InternalError("what is on a stream is not advanced"); }

 private:
  std::function<void()> work_;
};

inline void issue(Device& device, Queue queue, const Operand& operand, std::function<void()> work) {
  device.transfer(std::make_unique<OnStream>(std::move(work)), {&operand, 1}, {}, queue);
}

// Keeps a queue from going on until it is told to.
class Hold {
 public:
  void on(Device& device, Queue queue, const Operand& operand) {
    issue(device, queue, operand, [over = over_] {
      while (!*over) std::this_thread::sleep_for(std::chrono::microseconds(50));
    });
  }
  void end() { *over_ = true; }
  ~Hold() { end(); }

 private:
  std::shared_ptr<std::atomic<bool>> over_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace toroid::testing
