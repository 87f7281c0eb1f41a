// The step program on the recording device: what a step issues, without or with a device behind it.
#pragma once

#include <iosfwd>

#include "core/device/sim/recording_device.h"
#include "train/engine/engine.h"
#include "train/loop/run.h"

namespace toroid::train {

// What one step issued: the operators in order, and the memory of set-up and step together.
struct StepRecord {
  std::vector<Record> operators;  // launches and copies of the step alone
  Statistics memory;              // peak since before set-up
};

// Without numbers: nothing is allocated but the batch on the host.
StepRecord record_dry(const config::RunConfig& run, const Plugins& plugins);
// The memory of the rank of `world`, whose collectives go the way they would there, on `threads` threads.
Statistics predict_memory(const config::RunConfig& run, World& world, int threads, const Plugins& plugins);
// One real step on synthetic tokens on `threads` threads, recorded on its way.
StepRecord record_real(const config::RunConfig& run, const Plugins& plugins);

// Units, operators with FLOPs and bytes, memory by holder.
void print_record(std::ostream& out, const config::RunConfig& run, const StepRecord& record);

void dry_run(const TrainOptions& options, const Plugins& plugins);
void record_step(const TrainOptions& options, const Plugins& plugins);

}  // namespace toroid::train
