#include "train/config/batch_plan.h"

#include <algorithm>

#include "core/base/text.h"
#include "train/train.pb.h"

namespace toroid::train {

BatchPlan::BatchPlan(const config::BatchConfig& batch) {
  for (const config::BatchPhase& phase : batch.ramp()) {
    const std::string name = "batch.ramp[" + std::to_string(phases_.size()) + "].global_sequences";
    phases_.push_back({phase.step(), phase.global_sequences(), name});
  }
  if (phases_.empty()) phases_.push_back({0, batch.global_sequences(), "batch.global_sequences"});
}

const BatchPlan::Phase& BatchPlan::phase(int64_t step) const {
  const auto later = std::find_if(phases_.begin() + 1, phases_.end(),
                                  [step](const Phase& phase) { return phase.first_step > step; });
  return *(later - 1);
}

int64_t BatchPlan::taken_before(int64_t step) const {
  int64_t taken = 0;
  for (size_t i = 0; i < phases_.size() && phases_[i].first_step < step; ++i) {
    const int64_t end = i + 1 < phases_.size() ? std::min(step, phases_[i + 1].first_step) : step;
    taken += (end - phases_[i].first_step) * phases_[i].sequences;
  }
  return taken;
}

std::string to_text(const BatchPlan& plan) {
  std::string out;
  for (const BatchPlan::Phase& phase : plan.phases()) {
    const std::string count = with_commas(phase.sequences);
    out += out.empty() ? count + (phase.sequences == 1 ? " sequence a step" : " sequences a step")
                       : ", " + count + " from step " + with_commas(phase.first_step) + " on";
  }
  return out;
}

}  // namespace toroid::train
