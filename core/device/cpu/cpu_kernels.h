// All kernels of the CPU device.
#pragma once

#include <memory>

#include "core/op/op.h"

namespace toroid {

// The reference kernels beneath, the fast ones above them. The instruction set is capped by TOROID_MAX_ISA.
std::shared_ptr<KernelRegistry> make_cpu_kernels(int threads);

}  // namespace toroid
