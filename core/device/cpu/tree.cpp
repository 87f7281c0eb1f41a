#include "core/device/cpu/tree.h"

#include "core/device/cpu/parallel.h"

namespace toroid::cpu {

void add_tree(float* partial, int64_t rows, int64_t columns, float* to, int threads) {
  parallel_ranges(columns, 16, rows * columns * int64_t{sizeof(float)}, threads, [=](Range range) {
    for (int64_t step = 1; step < rows; step *= 2) {
      for (int64_t row = 0; row + step < rows; row += 2 * step) {
        float* const into = partial + row * columns;
        const float* const other = into + step * columns;
        for (int64_t c = range.first; c < range.last; ++c) into[c] += other[c];
      }
    }
    if (rows == 0) return;
    for (int64_t c = range.first; c < range.last; ++c) to[c] += partial[c];
  });
}

float tree_sum(float* values, int64_t count) {
  for (int64_t step = 1; step < count; step *= 2) {
    for (int64_t i = 0; i + step < count; i += 2 * step) values[i] += values[i + step];
  }
  return count == 0 ? 0.0f : values[0];
}

}  // namespace toroid::cpu
