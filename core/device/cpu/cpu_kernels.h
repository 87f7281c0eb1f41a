// All kernels of the CPU device, and what the CPU is like.
#pragma once

#include <memory>

#include "core/device/cpu/bf16_products.h"
#include "core/device/device_kernels.h"

namespace toroid {

// The reference kernels beneath, the fast ones above them. The instruction set is capped by TOROID_MAX_ISA.
// UserError for native products where the machine has no instructions for them.
std::shared_ptr<DeviceKernels> make_cpu_kernels(int threads, Bf16Products products);
// With the products that this machine does fast.
std::shared_ptr<DeviceKernels> make_cpu_kernels(int threads);

}  // namespace toroid
