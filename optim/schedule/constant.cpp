#include "optim/schedule/constant.h"

#include "optim/optim.pb.h"

namespace toroid::optim {

Schedule constant_schedule(const config::ConstantSchedule& config) {
  return [peak = config.peak(), warmup = config.warmup()](int64_t step) {
    return peak * warmup_fraction(step, warmup);
  };
}

}  // namespace toroid::optim
