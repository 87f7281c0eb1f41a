// All kernels of the CUDA device, and what it is like: known without a GPU.
#pragma once

#include <memory>

#include "core/device/device_kernels.h"

namespace toroid {

// A kind that has no kernel here yet is not in it: missing_kinds() names those (docs/gpu.md).
// `fused_attention`: attention goes by cuDNN where sdpa_rule.h lets it, on devices that have it
// (CudaDevice::Options).
std::shared_ptr<DeviceKernels> make_cuda_kernels(bool fused_attention = false);

}  // namespace toroid
