// Kernels of matrix products, called by make_cuda_kernels.
#pragma once

#include "core/op/op.h"

namespace toroid::cuda {

void add_loss_product_kernels(KernelRegistry& registry);
void add_matmul_kernels(KernelRegistry& registry);
void add_symmetric_product_kernel(KernelRegistry& registry);

}  // namespace toroid::cuda
