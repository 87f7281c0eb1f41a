// A learning-rate schedule is a function from the step, counted from 0, to the rate. It is evaluated on the
// host and reaches the device as an operand of the step. Some end: from that step on the rate stays what it
// is.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

namespace toroid::optim {

class Schedule {
 public:
  using Rate = std::function<double(int64_t step)>;
  // Any function of the step, of which nothing else is known.
  template <class Function>
  requires(!std::same_as<Function, Schedule> && std::convertible_to<Function, Rate>) Schedule(Function rate)
      : rate_(std::move(rate)) {}
  Schedule(Rate rate, int64_t end) : rate_(std::move(rate)), end_(end) {}

  double operator()(int64_t step) const { return rate_(step); }
  // The first step after its last one, where it has one.
  std::optional<int64_t> end() const { return end_; }

 private:
  Rate rate_;
  std::optional<int64_t> end_;
};

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
