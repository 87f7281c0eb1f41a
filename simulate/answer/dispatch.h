// What the controller's dispatch adds to a step (Pathways, arXiv 2203.12533).
#pragma once

#include <cstdint>

#include "core/base/clock.h"
#include "simulate/play/schedule.h"

namespace toroid::train {

using sim::Dispatch;

// To `hosts` of one island, whose own scheduler enqueues its programs in one order; islands do so side by
// side. The line through the published points: hidden by computations of 2.3 ms on 16 hosts and of 35 ms on
// 512.
Seconds dispatch_time(int64_t hosts);

// What a step of `step` then waits for the controller.
Seconds exposed_dispatch(Dispatch how, int64_t hosts, Seconds step);

}  // namespace toroid::train
