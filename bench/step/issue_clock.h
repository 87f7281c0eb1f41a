// What a host takes to issue a step to a device that runs behind it.
#pragma once

#include <cstdint>

#include "core/base/clock.h"
#include "core/device/sim/recording_device.h"

namespace toroid::train {

// A driver takes a thousand launches or so ahead of the GPU, and lets the host wait from there on. So the
// first launches of a step, which begins on an idle device, are timed with all that is issued between them,
// and the others count as much as they do.
class IssueClock {
 public:
  static constexpr int64_t kTimed = 256;

  explicit IssueClock(RecordingDevice& recorder) {
    recorder.around_launches([this](const Call&, Queue, const std::function<void()>& run) {
      run();
      if (++launches_ == kTimed) first_ = watch_.elapsed();
    });
  }
  IssueClock(const IssueClock&) = delete;  // the recorder, which is not used after this, calls it
  IssueClock& operator=(const IssueClock&) = delete;

  void begin() {
    launches_ = 0;
    watch_ = Stopwatch();
  }
  // When the step has been issued.
  Seconds end() const {
    if (launches_ <= kTimed) return watch_.elapsed();
    return first_ * (static_cast<double>(launches_) / kTimed);
  }

 private:
  Stopwatch watch_;
  int64_t launches_ = 0;
  Seconds first_{0};
};

}  // namespace toroid::train
