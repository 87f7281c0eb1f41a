// rate(s) = peak * (s + 1) / warmup                 for s < warmup
//         = peak                                    for s < steps - decay
//         = peak * (1 - (1 - final_fraction) * p)   p = (s - (steps - decay)) / decay, at most 1.
// Hu et al., MiniCPM, 2024: a run can be continued from any point of the stable part.
#pragma once

#include "optim/schedule/schedule.h"

namespace toroid::config {
class WarmupStableDecaySchedule;
}

namespace toroid::optim {

Schedule warmup_stable_decay_schedule(const config::WarmupStableDecaySchedule& config);

}  // namespace toroid::optim
