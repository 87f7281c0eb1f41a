// In place of the others of this folder where the build has no CUDA: what a step takes of a GPU is known, and
// none is made.
#include "core/base/error.h"
#include "core/device/cuda/cuda_kernels.h"
#include "parallel/comm/nccl/nccl_communicator.h"
#include "train/engine/cuda/cuda_maker.h"
#include "train/engine/cuda/gpu_report.h"

namespace toroid::train {

GpuReport look_at_gpus(const GpuReportOptions&) {
  GpuReport out;
  out.versions = "this build has no CUDA";
  out.why_none = "GPUs are not looked for; install CUDA's toolkit and build again (docs/gpu.md)";
  return out;
}

DeviceMaker cuda_maker(int64_t) {
  DeviceMaker out;
  // For what programs that see no GPU take for granted: an H100 or H200 with cuDNN (core/device/cuda/sdpa.h).
  out.kernels = [](int, Bf16Products) { return make_cuda_kernels(true); };
  out.make = [](const std::shared_ptr<const DeviceKernels>&, World*) -> std::unique_ptr<Device> {
    throw UserError(
        "device is CUDA, and this build has no CUDA; install its toolkit and build again (docs/gpu.md), or "
        "set device to CPU");
  };
  out.recorded_groups = make_recorded_nccl_groups;
  return out;
}

}  // namespace toroid::train
