// The training step on chips that only keep the clock: what `toroid train` would issue, recorded once for
// each kind of chip and played on simulated links.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "core/device/sim/chip.h"
#include "parallel/comm/sim/player.h"
#include "train/plugins.h"

namespace toroid::train {

// What one kind of chip issues in a step, and the memory that it takes.
struct SimulatedRole {
  int rank = 0;  // one that has it
  int64_t microbatches = 1;
  std::vector<Record> records;
  Statistics memory;
  std::map<Phase, int64_t> peak_by_phase;  // bytes, within the step
};

struct Simulation {
  std::vector<SimulatedRole> roles;
  sim::Played played;
  size_t fullest = 0;  // the role that takes the most memory
};

// Records the step of each kind of chip: the first and the last of the model and the data axis.
std::vector<SimulatedRole> record_roles(const config::RunConfig& run, const mesh::Mesh& mesh,
                                        const Plugins& plugins);

// Plays what record_roles() gave for this config.
Simulation simulate_recorded(const config::RunConfig& run, const sim::Chip& chip,
                             std::vector<SimulatedRole> roles, const sim::PlayOptions& options = {});

// UserError where the mesh does not fit the chip's pods. Whether memory does is not checked here.
Simulation simulate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
                    const sim::PlayOptions& options = {});

}  // namespace toroid::train
