#include "core/device/cpu/matmul_kernels.h"
namespace toroid::cpu {
void add_attention_grad_kernel(KernelRegistry&) {}
}  // namespace toroid::cpu
