// Memory-bound kernels, vectorised with Highway and dispatched at run time: norms, rotary embedding,
// activation, embedding, sums, casts, the verdict on a step, the update rules and what pods exchange. Their
// results do not depend on the number of threads. Calls with f64 or mixed types go to the kind's reference.
#pragma once

#include "core/op/op.h"

namespace toroid::cpu {

void add_vector_kernels(KernelRegistry& registry);

// One file each, called by add_vector_kernels.
void add_norm_kernels(KernelRegistry& registry);
void add_rope_kernels(KernelRegistry& registry);
void add_activation_kernels(KernelRegistry& registry);
void add_embedding_kernels(KernelRegistry& registry);
void add_reduce_kernels(KernelRegistry& registry);
void add_checksum_kernels(KernelRegistry& registry);
void add_elementwise_kernels(KernelRegistry& registry);
void add_init_kernels(KernelRegistry& registry);
void add_update_kernels(KernelRegistry& registry);
void add_momentum_kernels(KernelRegistry& registry);
void add_outer_kernels(KernelRegistry& registry);
void add_softcap_kernels(KernelRegistry& registry);

}  // namespace toroid::cpu
