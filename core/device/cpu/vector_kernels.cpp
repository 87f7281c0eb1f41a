#include "core/device/cpu/vector_kernels.h"

namespace toroid::cpu {

void add_vector_kernels(KernelRegistry& registry) {
  add_norm_kernels(registry);
  add_rope_kernels(registry);
  add_activation_kernels(registry);
  add_embedding_kernels(registry);
  add_reduce_kernels(registry);
  add_checksum_kernels(registry);
  add_elementwise_kernels(registry);
  add_init_kernels(registry);
  add_update_kernels(registry);
  add_momentum_kernels(registry);
  add_outer_kernels(registry);
  add_softcap_kernels(registry);
}

}  // namespace toroid::cpu
