#include "optim/schedule/warmup_stable_decay.h"

#include "optim/optim.pb.h"

namespace toroid::optim {

Schedule warmup_stable_decay_schedule(const config::WarmupStableDecaySchedule& config) {
  const auto rate = [peak = config.peak(), warmup = config.warmup(), final_fraction = config.final_fraction(),
                     steps = config.steps(), decay = config.decay()](int64_t step) {
    if (step < warmup) return peak * warmup_fraction(step, warmup);
    if (step < steps - decay) return peak;
    return peak * (1 - (1 - final_fraction) * progress(step, steps - decay, steps));
  };
  return {rate, config.steps()};
}

}  // namespace toroid::optim
