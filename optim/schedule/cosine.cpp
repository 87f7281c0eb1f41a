#include "optim/schedule/cosine.h"

#include <cmath>
#include <numbers>

#include "optim/optim.pb.h"

namespace toroid::optim {

Schedule cosine_schedule(const config::CosineSchedule& config) {
  const auto rate = [peak = config.peak(), warmup = config.warmup(), final_fraction = config.final_fraction(),
                     steps = config.steps()](int64_t step) {
    if (step < warmup) return peak * warmup_fraction(step, warmup);
    const double falling = (1 + std::cos(std::numbers::pi * progress(step, warmup, steps))) / 2;
    return peak * (final_fraction + (1 - final_fraction) * falling);
  };
  return {rate, config.steps()};
}

}  // namespace toroid::optim
