#include "core/device/cpu/cpu_kernels.h"

#include "core/base/error.h"
#include "core/device/cpu/matmul_kernels.h"
#include "core/device/cpu/onednn.h"
#include "core/device/cpu/vector_kernels.h"

namespace toroid {
namespace cpu {

void add_matmul_kernels(KernelRegistry& registry, Bf16Products products) {
  add_pack_kernel(registry, products);
  add_product_kernels(registry, products);
  add_symmetric_product_kernel(registry, products);
  add_attention_kernels(registry, products);
  add_loss_kernels(registry, products);
}

}  // namespace cpu

std::shared_ptr<DeviceKernels> make_cpu_kernels(int threads) {
  return make_cpu_kernels(threads, cpu::fastest_products());
}

std::shared_ptr<DeviceKernels> make_cpu_kernels(int threads, Bf16Products products) {
  cpu::cap_instruction_set();
  if (products == Bf16Products::native && !cpu::has_native_products()) {
    throw UserError(
        "bf16 products are to be NATIVE, but this processor has no bf16 instructions; set "
        "train.bf16_products to WIDENED or AUTO");
  }
  auto kernels = std::make_shared<DeviceKernels>();
  kernels->traits.threads = threads;
  kernels->traits.elements_at_once = int64_t{threads} << 15;  // four fp32 arrays of a core: half a megabyte
  kernels->traits.packed_size = [products](DType type, const Shape& shape, Layout layout) {
    return cpu::packed_bytes(type, shape, layout, products);
  };
  add_reference_kernels(*kernels);
  cpu::add_vector_kernels(*kernels);
  cpu::add_matmul_kernels(*kernels, products);
  return kernels;
}

}  // namespace toroid
