#include "core/op/attention.h"

#include "core/device/cpu/matmul_kernels.h"
namespace toroid::cpu {
void add_attention_kernels(KernelRegistry&) {}
}  // namespace toroid::cpu
