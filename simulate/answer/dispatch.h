// What the controller's dispatch adds to a step (Pathways, arXiv 2203.12533).
#pragma once

#include <cstdint>

#include "core/base/clock.h"

namespace toroid::train {

enum class Dispatch : uint8_t {
  none,
  parallel,    // asynchronous and ahead of the chips: a step lasts at least as long as its dispatch
  sequential,  // a step is dispatched when the one before it is done
};

// To `hosts` of one island, whose own scheduler enqueues its programs in one order; islands do so side by
// side. The line through the published points: hidden by computations of 2.3 ms on 16 hosts and of 35 ms on
// 512.
Seconds dispatch_time(int64_t hosts);

// What a step of `step` then waits for the controller.
Seconds exposed_dispatch(Dispatch how, int64_t hosts, Seconds step);

}  // namespace toroid::train
