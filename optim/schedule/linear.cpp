#include "optim/schedule/linear.h"

#include "optim/optim.pb.h"

namespace toroid::optim {

Schedule linear_schedule(const config::LinearSchedule& config) {
  const auto rate = [peak = config.peak(), warmup = config.warmup(), final_fraction = config.final_fraction(),
                     steps = config.steps()](int64_t step) {
    if (step < warmup) return peak * warmup_fraction(step, warmup);
    return peak * (1 - (1 - final_fraction) * progress(step, warmup, steps));
  };
  return {rate, config.steps()};
}

}  // namespace toroid::optim
