// Attention by Toroid's own kernels: any head to 256, grouped queries, windows, soft-caps, documents.
#pragma once

#include "core/op/op.h"

namespace toroid::cuda {

void add_attention_kernels(KernelRegistry& registry);
void add_attention_grad_kernels(KernelRegistry& registry);

}  // namespace toroid::cuda
