#include "core/device/cpu/tree.h"

#include "core/device/cpu/parallel.h"

namespace toroid::cpu {

void tree_rows(float* partial, int64_t rows, int64_t columns, int64_t stride, int threads) {
  parallel_ranges(columns, 16, rows * columns * int64_t{sizeof(float)}, threads, [=](Range range) {
    for (int64_t step = 1; step < rows; step *= 2) {
      for (int64_t row = 0; row + step < rows; row += 2 * step) {
        float* const into = partial + row * stride;
        const float* const other = into + step * stride;
        for (int64_t c = range.first; c < range.last; ++c) into[c] += other[c];
      }
    }
  });
}

void add_tree(float* partial, int64_t rows, int64_t columns, float* to, int threads) {
  if (rows == 0) return;
  tree_rows(partial, rows, columns, columns, threads);
  for (int64_t c = 0; c < columns; ++c) to[c] += partial[c];
}

float tree_sum(float* values, int64_t count) {
  for (int64_t step = 1; step < count; step *= 2) {
    for (int64_t i = 0; i + step < count; i += 2 * step) values[i] += values[i + step];
  }
  return count == 0 ? 0.0f : values[0];
}

}  // namespace toroid::cpu
