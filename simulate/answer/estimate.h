// What a step takes, as closely as whole percents of it ask, at a fraction of what simulating it costs.
#pragma once

#include "simulate/play/simulate.h"

namespace toroid::train {

struct Estimate {
  Seconds step{0};
  int64_t peak_bytes = 0;
};

// As simulate() has it. UserError as there, from all three.
Estimate estimate_in_full(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins);

// From the first chip, which stands for all; of many microbatches a few are played, and the rest is as the
// last of them. Where memory is closer to the chip's than that can tell, it is in full.
Estimate estimate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins);
// The same from the first step of a run, which finds memory as the set-up left it: at half the cost, and one
// or two percent off.
Estimate estimate_first_step(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins);

}  // namespace toroid::train
