// What the chips of a config issue in a training step, recorded once for each kind of chip.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "configs/run.pb.h"
#include "core/device/sim/chip.h"
#include "core/device/sim/recording_device.h"
#include "parallel/mesh/mesh.h"
#include "simulate/play/role.h"
#include "train/engine/plugins.h"

namespace toroid::train {

// What one kind of chip issues in a step, and the memory that it takes.
struct SimulatedRole {
  int rank = 0;  // one that has it
  std::vector<std::pair<bool, bool>>
      ends;  // whether the data and the model axis end at the chips that have it
  int64_t microbatches = 1;
  // Up to the optimizer, which roles may share, and from there on.
  std::shared_ptr<const std::vector<Record>> passes;
  std::vector<Record> rest;
  sim::StepRecords records() const { return {*passes, rest}; }
  Statistics memory;
  // Of a device that hands memory on while queues still use it: up to the end of the last block, with the
  // gaps between blocks. As `memory.bytes_peak` where memory is the system's.
  int64_t placed_bytes = 0;
  std::map<Phase, int64_t> peak_by_phase;  // bytes, within the step
};

// Records the step of each kind of chip: the first and the last of the model and the data axis.
std::vector<SimulatedRole> record_roles(const config::RunConfig& run, const mesh::Mesh& mesh,
                                        const sim::Chip& chip, const Plugins& plugins);

// The role that takes the most memory.
size_t fullest(std::span<const SimulatedRole> roles);

// The first chip, which stands for all where an estimate is enough: the others have other padding. Its steps,
// from the first of a run on, which finds memory as the set-up left it. All that it is made of outlives it.
class FirstChip {
 public:
  FirstChip(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins);
  ~FirstChip();
  FirstChip(const FirstChip&) = delete;  // a device's blocks point to it
  FirstChip& operator=(const FirstChip&) = delete;
  void step();
  SimulatedRole recorded_step();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace toroid::train
