// What the chips of a config issue in a training step, recorded once for each kind of chip.
#pragma once

#include <map>
#include <memory>
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

// What an estimate may leave out.
struct RecordOptions {
  bool first_alone = false;  // of the first chip, which stands for all: the others have other padding
  bool first_step = false;   // that finds memory as the set-up left it, instead of the next, one of many
};

// Records the step of each kind of chip: the first and the last of the model and the data axis.
std::vector<SimulatedRole> record_roles(const config::RunConfig& run, const mesh::Mesh& mesh,
                                        const sim::Chip& chip, const Plugins& plugins,
                                        const RecordOptions& options = {});

}  // namespace toroid::train
