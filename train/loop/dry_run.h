// The step program on the recording device: what a step issues, without or with a device behind it.
#pragma once

#include <iosfwd>

#include "core/device/sim/recording_device.h"
#include "train/engine/engine.h"
#include "train/loop/run.h"

namespace toroid::train {

// The memory of set-up and steps together.
struct MemoryPrediction {
  Statistics memory;         // peak since before set-up
  int64_t placed_bytes = 0;  // what a device needs that places its blocks itself, with the gaps between them
};

// What one step issued, and its memory.
struct StepRecord : MemoryPrediction {
  std::vector<Record> operators;  // launches and copies of the step alone, in order
};

// Without numbers: nothing is allocated but the batch on the host.
StepRecord record_dry(const config::RunConfig& run, const Plugins& plugins);
// The memory of the rank of `world`, whose collectives go the way they would there, on `threads` threads.
MemoryPrediction predict_memory(const config::RunConfig& run, World& world, int threads,
                                const Plugins& plugins);
// One real step on synthetic tokens on `threads` threads, recorded on its way.
StepRecord record_real(const config::RunConfig& run, const Plugins& plugins);

// Units, operators with FLOPs and bytes, memory by holder.
void print_record(std::ostream& out, const config::RunConfig& run, const StepRecord& record);

void dry_run(const TrainOptions& options, const Plugins& plugins);
void record_step(const TrainOptions& options, const Plugins& plugins);

}  // namespace toroid::train
