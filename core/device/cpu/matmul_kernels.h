// Kernels made of matrix products: pack, matmul, matmul_dx, matmul_dw, symmetric_product, attention, loss and
// their gradients. Calls with f64 go to the kind's reference.
#pragma once

#include "core/device/cpu/bf16_products.h"
#include "core/op/op.h"

namespace toroid::cpu {

void add_matmul_kernels(KernelRegistry& registry, Bf16Products products);

// One file each, called by add_matmul_kernels.
void add_pack_kernel(KernelRegistry& registry, Bf16Products products);
void add_product_kernels(KernelRegistry& registry, Bf16Products products);
void add_symmetric_product_kernel(KernelRegistry& registry, Bf16Products products);
void add_attention_kernels(KernelRegistry& registry, Bf16Products products);
void add_attention_grad_kernel(KernelRegistry& registry, Bf16Products products);
void add_loss_kernels(KernelRegistry& registry, Bf16Products products);

// The size of a weight in a packed layout; plain size where the layout or the type is plain.
int64_t packed_bytes(DType type, const Shape& shape, Layout layout, Bf16Products products);

}  // namespace toroid::cpu
