#include "simulate/answer/estimate.h"

#include <cmath>

namespace toroid::train {
namespace {

constexpr int64_t kFewPlayed = 4;  // microbatches of a longer step, and one fewer, that give the rest
constexpr double kCertain = 0.03;  // of the chip's memory: what padding and gaps between blocks may add

Estimate of(const Simulation& simulation) {
  return {simulation.played.step, simulation.roles[simulation.fullest].placed_bytes};
}

}  // namespace

Estimate estimate_in_full(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins) {
  return of(simulate(run, chip, plugins));
}

Estimator::Estimator(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins)
    : run_(run), chip_(chip), plugins_(plugins), played_{run} {
  (void)network_of(run, chip);  // refuses what no chip can run
  // Sums over microbatches are a binary tree in deterministic mode: no microbatch is like the one before.
  if (microbatches_of(run) > kFewPlayed && !run.train().deterministic()) {
    played_.push_back(run);
    for (size_t i = 0; i < 2; ++i) {
      const int64_t microbatches = kFewPlayed - static_cast<int64_t>(i);
      played_[i].mutable_batch()->set_global_sequences(microbatches * sequences_a_round(run));
    }
  }
  for (const config::RunConfig& played : played_)
    chips_.push_back(std::make_unique<FirstChip>(played, chip, plugins));
}

Estimate Estimator::next_step() {
  std::vector<Estimate> found;
  for (size_t i = 0; i < played_.size(); ++i) {
    std::vector<SimulatedRole> roles;
    roles.push_back(chips_[i]->recorded_step());
    found.push_back(of(simulate_recorded(played_[i], chip_, std::move(roles))));
  }
  Estimate out = found[0];
  if (found.size() > 1) {
    const int64_t more = microbatches_of(run_) - kFewPlayed;
    out.step += static_cast<double>(more) * (out.step - found[1].step);
    out.peak_bytes += more * (out.peak_bytes - found[1].peak_bytes);
  }
  const auto room = static_cast<double>(chip_.memory_bytes);
  if (std::abs(static_cast<double>(out.peak_bytes) - room) > kCertain * room) return out;
  return estimate_in_full(run_, chip_, plugins_);
}

}  // namespace toroid::train
