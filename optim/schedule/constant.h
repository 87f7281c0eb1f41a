// rate(s) = peak * min(1, (s + 1) / warmup).
#pragma once

#include "optim/schedule/schedule.h"

namespace toroid::config {
class ConstantSchedule;
}

namespace toroid::optim {

Schedule constant_schedule(const config::ConstantSchedule& config);

}  // namespace toroid::optim
