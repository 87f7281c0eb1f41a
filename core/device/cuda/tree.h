// to[c] += the balanced binary tree over rows of partial sums, neighbours first: the association of
// deterministic mode.
#pragma once

#include "core/device/cuda/launch.h"

namespace toroid::cuda {

inline constexpr int kTreeThreads = 128, kTreeFan = 16;

// One pass over rows `stride` apart: each group of 16 into its first; the last one adds to `to`, where that
// is given. Passes over aligned groups of a power of two are levels of the one tree.
struct TreeArgs {
  float *partial, *to;
  int64_t rows, stride;
  int columns;
};
struct TreePass {
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const TreeArgs& a) const {
    const int chunks = (a.columns + Team::kSize - 1) / Team::kSize;
    const int64_t group = team.index() / chunks, left = a.rows - kTreeFan * group;
    const int base = static_cast<int>(team.index() % chunks) * Team::kSize;
    each<1, 1>(team, a.columns - base, [&](const auto& at) {
      float* const first = a.partial + kTreeFan * group * a.stride + base + at.i;
      float v[kTreeFan];
      TOROID_UNROLL
      for (int r = 0; r < kTreeFan; ++r) v[r] = r < left ? first[r * a.stride] : 0.0f;
      TOROID_UNROLL
      for (int step = 1; step < kTreeFan; step *= 2) {
        TOROID_UNROLL
        for (int r = 0; r + step < kTreeFan; r += 2 * step) {
          if (r + step < left) v[r] = v[r] + v[r + step];
        }
      }
      if (a.rows <= kTreeFan && a.to != nullptr) {
        a.to[base + at.i] = a.to[base + at.i] + v[0];
      } else {
        *first = v[0];
      }
    });
  }
};

// `partial` is overwritten; its rows are `stride` elements apart. Without `to` the sum is in its first row.
inline void add_tree(cudaStream_t stream, float* partial, int64_t rows, int64_t stride, int columns,
                     float* to) {
  if (columns == 0) return;
  const int64_t chunks = (columns + kTreeThreads - 1) / kTreeThreads;
  while (rows > 0) {
    const int64_t groups = (rows + kTreeFan - 1) / kTreeFan;
    launch<TreePass, kTreeThreads>(stream, groups * chunks, TreeArgs{partial, to, rows, stride, columns});
    if (groups <= 1) return;
    rows = groups;
    stride *= kTreeFan;
  }
}

}  // namespace toroid::cuda
