// A learning-rate schedule is a function from the step, counted from 0, to the rate. It is evaluated on the
// host and reaches the device as an operand of the step.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>

namespace toroid::optim {

using Schedule = std::function<double(int64_t step)>;

// What all built-in schedules share: the rise over the first `warmup` steps, (step + 1) / warmup, and 1 after
// it.
inline double warmup_fraction(int64_t step, int64_t warmup) {
  if (step >= warmup) return 1;
  return static_cast<double>(step + 1) / static_cast<double>(warmup);
}

// How far `step` is on the way from `first` (0) to `last` (1).
inline double progress(int64_t step, int64_t first, int64_t last) {
  if (step >= last) return 1;
  return std::max(0.0, static_cast<double>(step - first) / static_cast<double>(last - first));
}

}  // namespace toroid::optim
