// The training step on chips that only keep the clock: what `toroid train` would issue, recorded once for
// each kind of chip and played on simulated links.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "core/device/sim/chip.h"
#include "simulate/play/player.h"
#include "simulate/play/variation.h"
#include "train/engine/plugins.h"

namespace toroid::train {

// What one kind of chip issues in a step, and the memory that it takes.
struct SimulatedRole {
  int rank = 0;  // one that has it
  std::vector<std::pair<bool, bool>>
      ends;  // whether the data and the model axis end at the chips that have it
  int64_t microbatches = 1;
  std::vector<Record> records;
  Statistics memory;
  // Of a device that hands memory on while queues still use it: up to the end of the last block, with the
  // gaps between blocks. As `memory.bytes_peak` where memory is the system's.
  int64_t placed_bytes = 0;
  std::map<Phase, int64_t> peak_by_phase;  // bytes, within the step
};

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

// What an estimate may leave out.
struct RecordOptions {
  bool first_alone = false;  // of the first chip, which stands for all: the others have other padding
  bool first_step = false;   // that finds memory as the set-up left it, instead of the next, one of many
};

// Records the step of each kind of chip: the first and the last of the model and the data axis.
std::vector<SimulatedRole> record_roles(const config::RunConfig& run, const mesh::Mesh& mesh,
                                        const sim::Chip& chip, const Plugins& plugins,
                                        const RecordOptions& options = {});

// What simulate.schedule names; Toroid's own where nothing does. UserError where there is no such file.
sim::Schedule schedule_of(const config::RunConfig& run);

// The links of the config's mesh. UserError where it does not fit the chip's pods.
sim::Network network_of(const config::RunConfig& run, const sim::Chip& chip, const Variation& variation = {});

// Plays what record_roles() gave for this config: where chips differ, all of them.
sim::Played play_step(const config::RunConfig& run, const sim::Chip& chip,
                      const std::vector<SimulatedRole>& roles, const SimulateOptions& options = {});
Simulation simulate_recorded(const config::RunConfig& run, const sim::Chip& chip,
                             std::vector<SimulatedRole> roles, const SimulateOptions& options = {});

// UserError where the mesh does not fit the chip's pods. Whether memory does is not checked here.
Simulation simulate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
                    const SimulateOptions& options = {});

}  // namespace toroid::train
