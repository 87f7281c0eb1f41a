#include "core/device/cpu/cpu_kernels.h"

#include "core/device/cpu/matmul_kernels.h"
#include "core/device/cpu/onednn.h"
#include "core/device/cpu/vector_kernels.h"

namespace toroid {
namespace {

class CpuKernels : public KernelRegistry {
 public:
  int64_t packed_bytes(DType type, const Shape& shape, Layout layout) const override {
    return cpu::packed_bytes(type, shape, layout);
  }
};

}  // namespace

namespace cpu {

void add_matmul_kernels(KernelRegistry& registry) {
  add_pack_kernel(registry);
  add_product_kernels(registry);
  add_attention_kernels(registry);
  add_loss_kernels(registry);
}

}  // namespace cpu

std::shared_ptr<KernelRegistry> make_cpu_kernels(int threads) {
  cpu::cap_instruction_set();
  auto registry = std::make_shared<CpuKernels>();
  registry->set_threads(threads);
  add_reference_kernels(*registry);
  cpu::add_vector_kernels(*registry);
  cpu::add_matmul_kernels(*registry);
  return registry;
}

}  // namespace toroid
