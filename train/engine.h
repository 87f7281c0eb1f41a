// From a checked config to the objects of a run: the one place that knows both.
#pragma once

#include <memory>

#include "configs/run.pb.h"
#include "data/batch/batch.h"
#include "train/plugins.h"
#include "train/step/step_program.h"

namespace toroid::train {

// Threads of the compute team: train.threads, else OMP_NUM_THREADS, else the cores this process may use.
int compute_threads(const config::TrainConfig& train);

StepOptions step_options(const config::RunConfig& run);

// Device and program together; the device outlives what it holds.
struct Engine {
  std::unique_ptr<Device> device;
  std::unique_ptr<Communicator> alone;
  std::unique_ptr<StepProgram> program;
};

// A program on `device` for this config.
Engine make_engine(const config::RunConfig& run, std::unique_ptr<Device> device, const Plugins& plugins);

HostBatch host_batch(const Batch& batch);

}  // namespace toroid::train
