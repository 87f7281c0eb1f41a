// The element-wise half of the loss, on rows of logits. T: bf16 (as bits) or fp32.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace toroid::cpu {

// The largest of some logits, and the sum of exp(logit - largest).
struct Normaliser {
  float max = -std::numeric_limits<float>::infinity(), sum = 0;
};
// Of two sets of logits; the empty one changes nothing, and what is not a number is passed on.
inline Normaliser meet(Normaliser a, Normaliser b) {
  const auto empty = [](const Normaliser& n) {
    return n.sum == 0 && n.max < std::numeric_limits<float>::lowest();
  };
  if (empty(b)) return a;
  if (empty(a)) return b;
  const float top = std::max(a.max, b.max);
  return {top, a.sum * std::exp(a.max - top) + b.sum * std::exp(b.max - top)};
}

// Of `count` sets `stride` apart, which are overwritten, as a balanced binary tree: neighbours first.
inline Normaliser meet_tree(Normaliser* norms, int64_t count, int64_t stride) {
  for (int64_t step = 1; step < count; step *= 2) {
    for (int64_t i = 0; i + step < count; i += 2 * step) {
      norms[i * stride] = meet(norms[i * stride], norms[(i + step) * stride]);
    }
  }
  return norms[0];
}

// What happens to `rows` x `columns` logits z (fp32, dense). Absent pointers are null.
struct LogitRows {
  float* z = nullptr;  // soft-capped in place where `softcap` is not 0
  int64_t rows = 0, columns = 0;
  int64_t padding = 0;  // the last columns of each row, which are left out: p and slope get 0
  float softcap = 0;
  float *max = nullptr, *sum = nullptr;  // [rows]: the largest z, and the sum of exp(z - max)
  const float* given_max = nullptr;      // [rows]: taken for the largest z, which may lie elsewhere
  bool bf16 = false;                     // type of the next two
  void *p = nullptr, *slope = nullptr;   // exp(z - max), 1 - (z / softcap)^2; rows `stride` elements apart
  int64_t stride = 0;
};
void exponentials(const LogitRows& rows);

// p = p * factor[row] (* slope), and `scale` less at the row's target, before the slope. A target outside
// [0, columns) lies in another slice.
struct GradientRows {
  void *p = nullptr, *slope = nullptr;
  bool bf16 = false;
  int64_t rows = 0, columns = 0, stride = 0;
  const float* factor = nullptr;
  const int32_t* target = nullptr;
  int64_t first_column = 0;
  float scale = 0;
};
void logit_gradients(const GradientRows& rows);

// For the rows [first, last) of max[slices, rows] and sum[slices, rows]: the common maximum and the sum of
// exponentials beneath it, in the order of the slices -> lse[rows]. With `scale` the slices'
// factors, scale exp(max - lse), take the place of their maxima.
void normalise(float* max, const float* sum, int64_t slices, int64_t rows, int64_t first, int64_t last,
               const float* scale, float* lse);

}  // namespace toroid::cpu
