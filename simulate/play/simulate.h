// The training step on chips that only keep the clock: what `toroid train` would issue, recorded once for
// each kind of chip and played on simulated links.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "core/device/sim/chip.h"
#include "simulate/play/player.h"
#include "simulate/play/record.h"
#include "simulate/play/variation.h"
#include "train/engine/plugins.h"

namespace toroid::train {

struct SimulateOptions {
  bool spans = false;  // keep the first chip's
  Variation variation;
};

struct Simulation {
  std::vector<SimulatedRole> roles;
  sim::Played played;
  size_t fullest = 0;  // the role that takes the most memory
};

// The sequences that all replicas take in one microbatch, those that are there to fill it included.
int64_t sequences_a_round(const config::RunConfig& run);
// Microbatches of a step, as the step program counts them.
int64_t microbatches_of(const config::RunConfig& run);

// What simulate.schedule names; Toroid's own where nothing does. UserError where there is no such file.
sim::Schedule schedule_of(const config::RunConfig& run);

// The links of the config's mesh. UserError where it does not fit the chip's pods.
sim::Network network_of(const config::RunConfig& run, const sim::Chip& chip, const Variation& variation = {});

// Plays what record_roles() gave for this config: where chips differ, all of them.
sim::Played play_step(const config::RunConfig& run, const sim::Chip& chip,
                      std::span<const SimulatedRole> roles, const SimulateOptions& options = {});
Simulation simulate_recorded(const config::RunConfig& run, const sim::Chip& chip,
                             std::vector<SimulatedRole> roles, const SimulateOptions& options = {});

// UserError where the mesh does not fit the chip's pods. Whether memory does is not checked here.
Simulation simulate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
                    const SimulateOptions& options = {});

}  // namespace toroid::train
