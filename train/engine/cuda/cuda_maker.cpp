#include "train/engine/cuda/cuda_maker.h"

#include <utility>

#include "core/device/cuda/cuda_device.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/device/cuda/sdpa.h"
#include "parallel/comm/nccl/nccl_communicator.h"
#include "parallel/comm/world.h"
#include "train/engine/cuda/device_groups.h"
#include "train/engine/cuda/gpu_choice.h"

namespace toroid::train {

DeviceMaker cuda_maker(int64_t gpu_bytes) {
  DeviceMaker out;
  // By GPUs that are here, or where none is by what a dry run takes for granted.
  out.kernels = [](int, Bf16Products) { return make_cuda_kernels(cuda::attention_library().fused); };
  out.make = [gpu_bytes](std::shared_ptr<const DeviceKernels> kernels, World* world) {
    CudaDevice::Options options;
    options.gpu = world == nullptr ? 0 : choose_gpu(*world);
    options.bytes = gpu_bytes;
    options.attention = cuda::attention_library();
    if (world != nullptr && world->size() > 1) require_same_attention(*world, options.attention.text);
    auto device = std::make_unique<CudaDevice>(std::move(kernels), options);
    if (world != nullptr && world->size() > 1) world->carry_out_by(make_device_groups(*world, *device));
    return device;
  };
  out.recorded_groups = make_recorded_nccl_groups;
  return out;
}

}  // namespace toroid::train
