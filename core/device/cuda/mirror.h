// What a symmetric product has beside its sums: the other terms, the rounding, and the mirror image.
#pragma once

#include <cuda_runtime_api.h>

#include "core/op/op.h"

namespace toroid::cuda {

// Columns [first, first + width) of call's result, from the diagonal downwards: sums f32[n - first, width].
// Writes alpha sums + beta c + gamma I on and below the diagonal, and above it the mirror image.
struct SymmetricPanel {
  const float* sums = nullptr;
  int64_t first = 0, width = 0;
};
void finish_panel(cudaStream_t stream, const Call& symmetric_product, const SymmetricPanel& panel);

}  // namespace toroid::cuda
