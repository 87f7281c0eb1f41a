// Memory-bound kernels, one file a group of kinds, each called by add_vector_kernels: norms, rotary
// embedding, activation, embedding, sums, checksums, casts, the verdict on a step, the update rules, what
// pods exchange.
#pragma once

#include "core/op/op.h"

namespace toroid::cuda {

void add_vector_kernels(KernelRegistry& registry);

void add_activation_kernels(KernelRegistry& registry);
void add_checksum_kernels(KernelRegistry& registry);
void add_elementwise_kernels(KernelRegistry& registry);
void add_embedding_kernels(KernelRegistry& registry);
void add_loss_kernels(KernelRegistry& registry);
void add_norm_kernels(KernelRegistry& registry);
void add_reduce_kernels(KernelRegistry& registry);
void add_rope_kernels(KernelRegistry& registry);
void add_update_kernels(KernelRegistry& registry);
void add_wire_kernels(KernelRegistry& registry);

}  // namespace toroid::cuda
