// The element-wise half of attention. Types of p and its kin: bf16 (as bits) or fp32.
#pragma once

#include <cstdint>

namespace toroid::cpu {

// One block of scores z[rows, columns] (queries x keys, fp32, unscaled) joins the running softmax.
struct SoftmaxRows {
  const float* z = nullptr;
  int64_t rows = 0, columns = 0;
  int64_t key = 0;                                  // of column 0
  const int32_t *first = nullptr, *last = nullptr;  // keys that a row sees
  float scale = 1, softcap = 0;
  bool bf16 = false;
  void* p = nullptr;                                       // exp(score - max), 0 where masked
  float *max = nullptr, *sum = nullptr, *alpha = nullptr;  // running; alpha: what earlier results shrink by
};
void softmax_block(const SoftmaxRows& rows);

// o[rows, columns] *= alpha[row]
void rescale_rows(float* o, const float* alpha, int64_t rows, int64_t columns);
// to[columns] = from / divisor, rounded
void divide_row(const float* from, float divisor, bool bf16, void* to, int64_t columns);
// sum of a[i] b[i] in fp32
float dot_row(const void* a, const void* b, bool bf16, int64_t n);

// The gradient of one block, transposed: z and dp are [keys, queries]. p = exp(score - lse), ds = p (dp -
// delta) scale (slope of the soft-cap).
struct ScoreGradients {
  const float *z = nullptr, *dp = nullptr;
  int64_t keys = 0, queries = 0;
  int64_t key = 0;                                  // of row 0
  bool masked = true;                               // false: every query sees every key
  const int32_t *first = nullptr, *last = nullptr;  // [queries]
  const float *lse = nullptr, *delta = nullptr;     // [queries]
  float scale = 1, softcap = 0;
  bool bf16 = false;
  void *p = nullptr, *ds = nullptr;  // [keys, queries]
  void* packed = nullptr;            // ds once more, as the B of a product; null: not wanted
  int64_t n_block = 64;              // its layout: blocks of n_block queries ...
  int64_t padded_keys = 0;           // ... of so many keys, in pairs where bf16
};
void score_gradients(const ScoreGradients& block);

}  // namespace toroid::cpu
