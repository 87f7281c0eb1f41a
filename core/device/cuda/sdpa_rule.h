// Which calls of attention cuDNN's fused kernels compute, and the memory they take: by type, shape and mode
// alone, so that a dry run knows it on any machine. All other calls go by Toroid's own kernels.
#pragma once

#include "core/op/op.h"

namespace toroid::cuda {

// Of a call of attention or attention_grad: bf16 in the fast mode, as many queries as keys, heads of 8, 16,
// ... 256 elements whose rows begin at multiples of 16 bytes, with lse wanted, and gradients in bf16 that
// take no more than kMostSdpaBytes. Checked with cuDNN 9.19, which has kernels for all of these whose bits
// are the same on every run.
bool sdpa_takes(const Call& call);

// Of a gradient's memory, which grows with the square of the sequence: 2B with 16,384 tokens takes 4.4 GB.
inline constexpr int64_t kMostSdpaBytes = int64_t{5} << 30;

// Where scratch memory begins, of a call that it takes: one sequence is computed at a time.
struct SdpaWorkspace {
  int64_t kernel = 0;         // bytes for cuDNN
  int64_t sums = 0, lse = 0;  // offsets of f32[heads, T], of attention_grad
  int64_t bytes = 0;          // all of it
};
SdpaWorkspace sdpa_workspace(const Call& call);

}  // namespace toroid::cuda
