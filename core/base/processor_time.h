// Processor time, which other programs' turns do not count in.
#pragma once

#include <ctime>

#include "core/base/clock.h"

namespace toroid {

// Of the calling thread, since it began.
inline Seconds thread_processor_time() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return Seconds(static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec));
}

}  // namespace toroid
