#include "train/engine/cuda/gpu_report.h"

#include <algorithm>
#include <functional>
#include <span>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/device/cuda/cuda_device.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/device/cuda/gpus.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"

namespace toroid::train {
namespace {

constexpr int kRepetitions = 10;
constexpr Seconds kLongest{60};

// Of `calls`, in the GPU's own time.
double seconds_of(Device& device, int repetitions, const std::function<void()>& call) {
  call();
  const Event before = device.record(Queue::compute);
  for (int i = 0; i < repetitions; ++i) call();
  const Event after = device.record(Queue::compute);
  device.synchronize(after, kLongest);
  return device.elapsed(before, after).count() / repetitions;
}

double product_rate(Device& device, DType type, int64_t n) {
  const auto filled = [&] {
    Array values = device.array(DType::f32, {n, n}, "doctor"), out = device.array(type, {n, n}, "doctor");
    device.launch(
        op::init_normal(values.tensor.reshape({n * n}), {random_key(1, Purpose::synthetic, "doctor"), 0, 1}));
    device.launch(op::cast(values.tensor, out.tensor));
    return out;
  };
  const Array x = filled(), plain = filled(), y = device.array(type, {n, n}, "doctor"),
              w = device.array(type, {n, n}, "doctor", Layout::packed_forward);
  device.launch(op::pack(std::span(&plain.tensor, 1), w.tensor));
  const double flops = 2.0 * static_cast<double>(n) * static_cast<double>(n) * static_cast<double>(n);
  return flops /
         seconds_of(device, kRepetitions, [&] { device.launch(op::matmul(x.tensor, w.tensor, y.tensor)); });
}

double copy_rate(Device& device, int64_t bytes) {
  const Array from = device.array(DType::u8, {bytes}, "doctor"),
              to = device.array(DType::u8, {bytes}, "doctor");
  return 2.0 * static_cast<double>(bytes) /
         seconds_of(device, kRepetitions, [&] { device.copy(to.tensor, from.tensor); });
}

void measure(GpuReport::One& out, int gpu, int64_t side) {
  // Small enough for a GPU that others use too.
  constexpr int64_t kMost = int64_t{4} << 30, kShare = 4;
  CudaDevice::Options options;
  options.gpu = gpu;
  options.bytes = std::min(out.free / kShare, kMost);
  options.staging_bytes = int64_t{1} << 20;
  CudaDevice device(make_cuda_kernels(), options);
  // A sixteenth for each of the matrices: four, one of them in fp32 while it is made, beside a workspace.
  int64_t n = side;
  while (n > 1 && 4 * n * n > options.bytes / 16) n /= 2;
  out.bf16_flops_per_s = product_rate(device, DType::bf16, n);
  out.fp32_flops_per_s = product_rate(device, DType::f32, n);
  out.copy_bytes_per_s = copy_rate(device, options.bytes / 4);
}

}  // namespace

GpuReport look_at_gpus(int64_t side) {
  GpuReport out;
  const std::string driver = cuda::driver_version();
  out.versions =
      (driver.empty() ? "no driver" : "driver up to CUDA " + driver) + ", program " + cuda::runtime_version();
  // Nobody has asked for one.
  if (driver.empty() || cuda::gpu_count() == 0) {
    out.why_none = driver.empty() ? "this machine has no NVIDIA driver" : "CUDA sees no GPU here";
    return out;
  }
  int count = 0;
  try {
    count = cuda::require_gpus();
  } catch (const UserError& error) {
    out.why_none = error.what();
    return out;
  }
  for (int gpu = 0; gpu < count; ++gpu) {
    GpuReport::One& one = out.gpus.emplace_back();
    const cuda::Gpu info = cuda::gpu_info(gpu);
    one.name = (info.model.empty() ? "GPU " + std::to_string(gpu) : info.model) + ", compute capability " +
               info.capability + (info.bus.empty() ? "" : ", " + info.bus);
    try {
      cuda::use_gpu(gpu);
      const cuda::GpuMemory memory = cuda::gpu_memory();
      one.free = memory.free;
      one.total = memory.total;
      measure(one, gpu, side);
    } catch (const UserError& error) {
      one.why_not = error.what();
    } catch (const SystemError& error) {
      one.why_not = error.what();
    }
  }
  return out;
}

}  // namespace toroid::train
