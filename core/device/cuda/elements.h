// Kernels that treat every element, or every vector of them, for itself: a team takes a run of a row. What is
// done is a type F with
//   struct Args;                                     operands, by value
//   static constexpr int kWide;                      elements of a vector
//   static Begun begin(const Args&);                 what all elements share, such as scalars in device
//   memory template <int kWidth> static void at(const Args&, const Begun&, int64_t row, int64_t i);
#pragma once

#include <algorithm>

#include "core/device/cuda/launch.h"
#include "core/device/cuda/vectors.h"

namespace toroid::cuda {

inline constexpr int kElementThreads = 256, kElementSlots = 2;

struct Nothing {};

template <class F>
struct ElementsArgs {
  typename F::Args of;
  int64_t columns = 0, first = 0;  // of a row: elements, and the number of the first one
  int64_t runs = 0;                // in a row
};

template <class F, int kWidth>
struct Elements {
  static constexpr int kRun = kElementThreads * kElementSlots * kWidth;
  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const ElementsArgs<F>& a) const {
    const int64_t row = team.index() / a.runs, begin = team.index() % a.runs * kRun, left = a.columns - begin;
    const auto begun = F::begin(a.of);
    each<kElementSlots, kWidth>(team, left < kRun ? static_cast<int>(left) : kRun, [&](const auto& at) {
      F::template at<kWidth>(a.of, begun, row, a.first + begin + at.i);
    });
  }
};

template <class F, int kWidth>
void launch_elements(cudaStream_t stream, const typename F::Args& of, int64_t rows, int64_t first,
                     int64_t columns) {
  if (rows <= 0 || columns <= 0) return;
  using Kernel = Elements<F, kWidth>;
  const int64_t runs = (columns + Kernel::kRun - 1) / Kernel::kRun;
  launch<Kernel, kElementThreads>(stream, rows * runs, ElementsArgs<F>{of, columns, first, runs});
}

// `wide`: every row begins where vectors can be read.
template <class F>
void launch_rows(cudaStream_t stream, const typename F::Args& of, int64_t rows, int64_t columns, bool wide) {
  if (wide && columns % F::kWide == 0) return launch_elements<F, F::kWide>(stream, of, rows, 0, columns);
  launch_elements<F, 1>(stream, of, rows, 0, columns);
}

// One row of n elements; what is left of the last vector is treated element by element.
template <class F>
void launch_flat(cudaStream_t stream, const typename F::Args& of, int64_t n, bool wide) {
  const int64_t whole = wide ? n / F::kWide * F::kWide : 0;
  launch_elements<F, F::kWide>(stream, of, 1, 0, whole);
  launch_elements<F, 1>(stream, of, 1, whole, n - whole);
}

}  // namespace toroid::cuda
