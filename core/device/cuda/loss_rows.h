// What the loss does to a block of logits between its products: their statistics, and their gradient.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/tensor/dtype.h"

namespace toroid::cuda {

// z f32[rows, columns] as the product left them, uncapped. Columns from `valid` on are padding.
struct LogitRows {
  const float* z = nullptr;
  int64_t rows = 0, stride = 0, columns = 0, valid = 0;
  float softcap = 0;                 // 0: none
  const int32_t* targets = nullptr;  // of each row; below zero: none
  int64_t first_token = 0;           // the id of column 0
};

// The largest capped logit of a row, the sum of exp(logit - largest), and the target's logit, 0 where it lies
// elsewhere. Without a valid column: minus infinity, 0, 0.
void logit_statistics(cudaStream_t stream, const LogitRows& logits, float* largest, float* sum,
                      float* target);

// scale (exp(logit - norm) - [is the target's]) through the soft-cap's slope, 0 in padding and in rows
// without a target -> d_z[rows, columns], f32 or bf16, rows `stride` apart as z's are; f32 may be z itself.
// norm: of each row, the logarithm of the sum of all exponentials; scale: one number, on the device.
void logit_gradient(cudaStream_t stream, const LogitRows& logits, const float* norms, const float* scale,
                    void* d_z, DType type);

// What slices of the vocabulary told of each token, three rows of `stride` for a slice, put together.
struct SliceStatistics {
  const float* of = nullptr;  // [3 slices, tokens]
  int64_t tokens = 0, stride = 0;
  int slices = 1;
  const int32_t* targets = nullptr;
};
// -> the loss of each token, 0 without a target; the largest of all logits; the norm of logit_gradient().
void merge_statistics(cudaStream_t stream, const SliceStatistics& statistics, float* token_loss,
                      float* largest, float* norms);

}  // namespace toroid::cuda
