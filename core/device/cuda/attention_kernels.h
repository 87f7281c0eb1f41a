// Attention by Toroid's own kernels: any head to 256, grouped queries, windows, soft-caps, documents; and by
// cuDNN's, where they are wanted and take the call (sdpa_rule.h).
#pragma once

#include "core/op/op.h"

namespace toroid::cuda {

void own_attention(const Call& call, const LaunchContext& context);
void own_attention_grad(const Call& call, const LaunchContext& context);
int64_t own_attention_grad_workspace(const Call& call, const LaunchContext& context);

void add_attention_kernels(KernelRegistry& registry, bool fused);

}  // namespace toroid::cuda
