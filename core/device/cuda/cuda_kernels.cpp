#include "core/device/cuda/cuda_kernels.h"

#include "core/device/cuda/attention_kernels.h"
#include "core/device/cuda/product_kernels.h"
#include "core/device/cuda/vector_kernels.h"

namespace toroid {
namespace cuda {

void add_vector_kernels(KernelRegistry& registry) {
  add_activation_kernels(registry);
  add_checksum_kernels(registry);
  add_elementwise_kernels(registry);
  add_embedding_kernels(registry);
  add_loss_kernels(registry);
  add_norm_kernels(registry);
  add_reduce_kernels(registry);
  add_rope_kernels(registry);
  add_update_kernels(registry);
  add_wire_kernels(registry);
}

}  // namespace cuda

std::shared_ptr<DeviceKernels> make_cuda_kernels(bool fused_attention) {
  auto kernels = std::make_shared<DeviceKernels>();
  kernels->traits.packs = false;  // products read one plain copy of a weight, forward and backward
  kernels->traits.memory_unit = 512;
  // Products of fewer tokens than some 2000 leave a GPU waiting for its memory.
  kernels->traits.logits_at_once = int64_t{1} << 29;
  cuda::add_vector_kernels(*kernels);
  cuda::add_attention_kernels(*kernels, fused_attention);
  cuda::add_loss_product_kernels(*kernels);
  cuda::add_matmul_kernels(*kernels);
  cuda::add_symmetric_product_kernel(*kernels);
  return kernels;
}

}  // namespace toroid
