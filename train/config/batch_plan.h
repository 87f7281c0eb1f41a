// How many sequences each step of a run takes: as many in all of them, or by the phases of batch.ramp. A
// function of the step alone, so that a run which is resumed goes on as it would have.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace toroid::config {
class BatchConfig;
}

namespace toroid::train {

class BatchPlan {
 public:
  struct Phase {
    int64_t first_step = 0, sequences = 0;
    std::string name;  // "batch.ramp[1].global_sequences", where the config says so
  };
  // `batch` has passed its check.
  explicit BatchPlan(const config::BatchConfig& batch);

  // In the order of their steps, the first from step 0 on; their sequences grow.
  const std::vector<Phase>& phases() const { return phases_; }
  bool ramps() const { return phases_.size() > 1; }
  const Phase& phase(int64_t step) const;
  int64_t sequences(int64_t step) const { return phase(step).sequences; }
  // The sequences of the last phase, for which memory is made.
  int64_t most() const { return phases_.back().sequences; }
  // The sequences that the steps before `step` took, where all of them went by this plan.
  int64_t taken_before(int64_t step) const;

 private:
  std::vector<Phase> phases_;
};

// "4 sequences a step, 8 from step 100 on"
std::string to_text(const BatchPlan& plan);

}  // namespace toroid::train
