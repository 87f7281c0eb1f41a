// In place of the others of this folder where the build has no CUDA.
#include "core/base/error.h"
#include "train/engine/cuda/cuda_maker.h"
#include "train/engine/cuda/gpu_report.h"

namespace toroid::train {
namespace {

[[noreturn]] void refuse() {
  throw UserError(
      "device is CUDA, and this build has no CUDA; install its toolkit and build again (docs/gpu.md), or set "
      "device to CPU");
}

}  // namespace

GpuReport look_at_gpus(const GpuReportOptions&) {
  GpuReport out;
  out.versions = "this build has no CUDA";
  out.why_none = "GPUs are not looked for; install CUDA's toolkit and build again (docs/gpu.md)";
  return out;
}

DeviceMaker cuda_maker(int64_t) {
  DeviceMaker out;
  out.kernels = [](int, Bf16Products) -> std::shared_ptr<DeviceKernels> { refuse(); };
  out.make = [](const std::shared_ptr<const DeviceKernels>&, World*) -> std::unique_ptr<Device> { refuse(); };
  return out;
}

}  // namespace toroid::train
