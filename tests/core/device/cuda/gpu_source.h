// GPUs as devices that join the contract of kernels.
#pragma once

#include <memory>
#include <utility>

#include "core/device/cuda/attention_kernels.h"
#include "core/device/cuda/cuda_device.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/device/cuda/sdpa.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {

inline DeviceSource gpu_source(std::string name, int64_t bytes) {
  return {.name = std::move(name), .make = [bytes](int) {
            CudaDevice::Options options;
            options.bytes = bytes;
            options.staging_bytes = int64_t{1} << 20;
            return std::make_unique<CudaDevice>(make_cuda_kernels(), options);
          }};
}

// With kernels for attention alone, by cuDNN where it takes the call; by Toroid's own where this machine has
// no cuDNN that is used (sdpa.h).
inline DeviceSource attention_source(std::string name, int64_t bytes) {
  return {.name = std::move(name), .make = [bytes](int) {
            CudaDevice::Options options;
            options.bytes = bytes;
            options.staging_bytes = int64_t{1} << 20;
            options.attention = cuda::attention_library();
            auto kernels = std::make_shared<DeviceKernels>();
            kernels->traits = make_cuda_kernels()->traits;
            cuda::add_attention_kernels(*kernels, options.attention.fused);
            return std::make_unique<CudaDevice>(kernels, options);
          }};
}

}  // namespace toroid::testing
