// The chip `host`: a rank on this machine, as `toroid doctor` and `toroid bench collectives` measured it.
#pragma once

#include <optional>
#include <vector>

#include "configs/run.pb.h"
#include "core/device/sim/chip.h"
#include "train/engine/plugins.h"
#include "train/machine/host.pb.h"
#include "train/report/prediction.h"

namespace toroid::train {

// One of `ranks` ranks of `threads` threads that share the machine of `figures` and train in `type`.
// UserError where the figures lack what it takes, with what to do.
sim::Chip make_machine_chip(const config::MachineFigures& figures,
                            std::vector<sim::CollectiveTime> collectives, int ranks, int threads, DType type);

// The same from the files of this machine, for a run of this config with all its ranks here. UserError where
// `toroid doctor` has not been run.
sim::Chip read_machine_chip(const config::RunConfig& run);

// The step of this config as the chip `host` takes it, for what is printed beside a run. Nothing, and a
// warning where figures are not as they should be, where there is nothing to compare with: without figures,
// and in deterministic mode, whose kernels they do not know.
std::optional<Prediction> predict_on_this_machine(const config::RunConfig& run, const Plugins& plugins);

}  // namespace toroid::train
