// rate(s) = peak * (s + 1) / warmup                          for s < warmup
//         = peak * (f + (1 - f) * (1 + cos(pi p)) / 2)       p = (s - warmup) / (steps - warmup), at most 1;
// f is final_fraction. Loshchilov and Hutter, SGDR, 2017 (one period, no restart).
#pragma once

#include "optim/schedule/schedule.h"

namespace toroid::config {
class CosineSchedule;
}

namespace toroid::optim {

Schedule cosine_schedule(const config::CosineSchedule& config);

}  // namespace toroid::optim
