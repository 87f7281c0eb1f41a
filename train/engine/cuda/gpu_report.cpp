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
#include "core/device/cuda/sdpa.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"
#include "train/engine/cuda/device_groups.h"

namespace toroid::train {
namespace {

constexpr int kRepetitions = 10;
constexpr int64_t kShare = 4;  // of what is free, small enough for a GPU that others use too
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
  constexpr int64_t kMost = int64_t{4} << 30;
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

// "all reach each other's memory", or which pairs do not.
std::string peers_of(int count) {
  if (count < 2) return "";
  std::string apart;
  for (int gpu = 0; gpu < count; ++gpu) {
    for (int peer = gpu + 1; peer < count; ++peer) {
      if (cuda::reaches(gpu, peer) && cuda::reaches(peer, gpu)) continue;
      apart += (apart.empty() ? "" : ", ") + std::to_string(gpu) + "-" + std::to_string(peer);
    }
  }
  return apart.empty() ? "all reach each other's memory" : "these pairs go by the host's memory: " + apart;
}

void measure_links(GpuReport& out, int count, const GpuReportOptions& options) {
  try {
    out.nccl = device_library_version();
  } catch (const Error& error) {
    out.why_not_nccl = error.what();
    return;
  }
  if (out.nccl.empty()) {
    out.why_not_nccl = "this build has no NCCL, by which GPUs talk to each other";
    return;
  }
  if (count < 2) return;
  int64_t bytes = options.collective_bytes;
  for (const GpuReport::One& gpu : out.gpus) {
    if (!gpu.why_not.empty()) {
      out.why_not_nccl = "NCCL is not measured: a GPU cannot be used";
      return;
    }
    bytes = std::min(bytes, gpu.free / kShare);
  }
  try {
    const NcclRates rates = device_link_rates(count, bytes, options.deadline);
    out.gather_bytes_per_s = rates.gather_bytes_per_s;
    out.reduce_bytes_per_s = rates.reduce_bytes_per_s;
  } catch (const Error& error) {
    out.why_not_nccl = error.what();
  }
}

}  // namespace

GpuReport look_at_gpus(const GpuReportOptions& options) {
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
  out.attention = cuda::attention_library().text;
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
      measure(one, gpu, options.side);
    } catch (const UserError& error) {
      one.why_not = error.what();
    } catch (const SystemError& error) {
      one.why_not = error.what();
    }
  }
  out.peers = peers_of(count);
  measure_links(out, count, options);
  return out;
}

}  // namespace toroid::train
