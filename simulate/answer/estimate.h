// What a step takes, as closely as whole percents of it ask, at a fraction of what simulating it costs.
#pragma once

#include <memory>
#include <vector>

#include "simulate/play/simulate.h"

namespace toroid::train {

struct Estimate {
  Seconds step{0};
  int64_t peak_bytes = 0;
};

// As simulate() has it. UserError as there.
Estimate estimate_in_full(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins);

// From the first chip, which stands for all; of many microbatches a few are played, and the rest is as the
// last of them. Where memory is closer to the chip's than that can tell, it is in full. All that it is made
// of outlives it. UserError as simulate() has it.
class Estimator {
 public:
  Estimator(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins);
  // From the next step, of which the second is like all that follow. The first one of a run finds memory as
  // the set-up left it, and is one or two percent off.
  Estimate next_step();

 private:
  const config::RunConfig& run_;
  const sim::Chip& chip_;
  const Plugins& plugins_;
  // The config, or two of fewer microbatches.
  std::vector<config::RunConfig> played_;
  std::vector<std::unique_ptr<FirstChip>> chips_;
};

}  // namespace toroid::train
