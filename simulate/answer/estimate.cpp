#include "simulate/answer/estimate.h"

#include <cmath>

namespace toroid::train {
namespace {

constexpr int64_t kFewPlayed = 4;  // microbatches of a longer step, and one fewer, that give the rest
constexpr double kCertain = 0.01;  // of the chip's memory: what padding and a step's remains may add

Estimate of(const Simulation& simulation) {
  return {simulation.played.step, simulation.roles[simulation.fullest].placed_bytes};
}

class Estimator {
 public:
  Estimator(const sim::Chip& chip, const Plugins& plugins, bool first_step)
      : chip_(chip), plugins_(plugins), first_step_(first_step) {}

  Estimate estimate(const config::RunConfig& run) const {
    const int64_t microbatches = microbatches_of(run);
    // Sums over microbatches are a binary tree in deterministic mode: no microbatch is like the one before.
    const bool many = microbatches > kFewPlayed && !run.train().deterministic();
    const Estimate out = many ? from_few(run, microbatches) : first_chip(run);
    const auto room = static_cast<double>(chip_.memory_bytes);
    if (std::abs(static_cast<double>(out.peak_bytes) - room) > kCertain * room) return out;
    return estimate_in_full(run, chip_, plugins_);
  }

 private:
  Estimate first_chip(const config::RunConfig& run) const {
    const sim::Network network = network_of(run, chip_);
    const RecordOptions options{.first_alone = true, .first_step = first_step_};
    return of(simulate_recorded(run, chip_, record_roles(run, network.mesh(), chip_, plugins_, options)));
  }

  Estimate from_few(config::RunConfig run, int64_t microbatches) const {
    const int64_t round = sequences_a_round(run);
    run.mutable_batch()->set_global_sequences((kFewPlayed - 1) * round);
    const Estimate fewer = first_chip(run);
    run.mutable_batch()->set_global_sequences(kFewPlayed * round);
    Estimate out = first_chip(run);
    const int64_t more = microbatches - kFewPlayed;
    out.step += static_cast<double>(more) * (out.step - fewer.step);
    out.peak_bytes += more * (out.peak_bytes - fewer.peak_bytes);
    return out;
  }

  const sim::Chip& chip_;
  const Plugins& plugins_;
  bool first_step_;
};

}  // namespace

Estimate estimate_in_full(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins) {
  return of(simulate(run, chip, plugins));
}

Estimate estimate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins) {
  return Estimator(chip, plugins, false).estimate(run);
}

Estimate estimate_first_step(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins) {
  return Estimator(chip, plugins, true).estimate(run);
}

}  // namespace toroid::train
