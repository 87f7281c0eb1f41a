// rate(s) = peak * (s + 1) / warmup                 for s < warmup
//         = peak * (1 - (1 - final_fraction) * p)   p = (s - warmup) / (steps - warmup), at most 1.
#pragma once

#include "optim/schedule/schedule.h"

namespace toroid::config {
class LinearSchedule;
}

namespace toroid::optim {

Schedule linear_schedule(const config::LinearSchedule& config);

}  // namespace toroid::optim
