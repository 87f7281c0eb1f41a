// Static partitions on the process's one thread team. No result may depend on them: a kernel's sums are cut
// into blocks that its shapes fix, and a thread takes whole blocks.
#pragma once

#include <algorithm>
#include <cstdint>

namespace toroid::cpu {

struct Range {
  int64_t first = 0, last = 0;
  int64_t size() const { return last - first; }
};

// Part `index` of `parts` nearly equal parts of [0, count), cut at multiples of `multiple`.
inline Range part_of(int64_t count, int parts, int index, int64_t multiple = 1) {
  const int64_t units = (count + multiple - 1) / multiple;
  const int64_t each = units / parts, extra = units % parts;
  const int64_t first = index * each + std::min<int64_t>(index, extra);
  const int64_t last = first + each + (index < extra ? 1 : 0);
  return {std::min(count, first * multiple), std::min(count, last * multiple)};
}

// One thread for a pass over few bytes, since a parallel region costs about as much as streaming 32 KiB; else
// all. Never a number between: GCC's runtime ends the threads that a smaller team leaves out and starts them
// anew.
inline int threads_for(int64_t bytes, int threads) {
  return bytes < (64 << 10) ? 1 : std::max(threads, 1);
}

// body(index) for each index in [0, parts), side by side. The team may be smaller than `parts`.
template <class Body>
void parallel(int parts, const Body& body) {
  if (parts <= 1) {
    body(0);
    return;
  }
#pragma omp parallel for num_threads(parts) schedule(static, 1)
  for (int index = 0; index < parts; ++index) body(index);
}

// body(range) over a static partition of [0, count), for a pass over `bytes`.
template <class Body>
void parallel_ranges(int64_t count, int64_t multiple, int64_t bytes, int threads, const Body& body) {
  const int parts = threads_for(bytes, threads);
  parallel(parts, [&](int index) {
    const Range range = part_of(count, parts, index, multiple);
    if (range.size() > 0) body(range);
  });
}

}  // namespace toroid::cpu
