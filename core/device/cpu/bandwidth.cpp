#include "core/device/cpu/bandwidth.h"

#include <algorithm>
#include <limits>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/device/cpu/allocator.h"
#include "core/device/cpu/parallel.h"

namespace toroid {

double measure_triad(int threads, int64_t bytes, int repeats) {
  cpu::CachingAllocator allocator;
  const int64_t n = bytes / int64_t{sizeof(double)};
  const auto array = [&] {
    auto* const made = static_cast<double*>(allocator.allocate(bytes));
    if (made == nullptr) throw SystemError("no memory to measure its bandwidth");
    return made;
  };
  double *const a = array(), *const b = array(), *const c = array();
  const auto each_thread = [&](const auto& body) {
    cpu::parallel(threads, [&](int index) {
      const cpu::Range range = cpu::part_of(n, threads, index, 512);
      body(range.first, range.last);
    });
  };
  each_thread([=](int64_t first, int64_t last) {
    std::fill(a + first, a + last, 0.0);
    std::fill(b + first, b + last, 1.0);
    std::fill(c + first, c + last, 2.0);
  });
  double best = std::numeric_limits<double>::max();
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const double scale = 0.5 + repeat;
    const Stopwatch watch;
    each_thread([=](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) a[i] = b[i] + scale * c[i];
    });
    best = std::min(best, watch.elapsed().count());
  }
  return 3.0 * static_cast<double>(n) * sizeof(double) / best;
}

}  // namespace toroid
