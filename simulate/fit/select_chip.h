// The chip that a simulation is of, with the constants that are wanted of it.
#pragma once

#include <string>

#include "configs/run.pb.h"
#include "core/base/io/file.h"
#include "core/device/sim/chip.h"

namespace toroid::train {

// `name` as read_chip() takes it or "host", this machine; empty: the config's, else host. Unless `nominal`, a
// chip has the constants of configs/calibration.textproto where that has some.
sim::Chip select_chip(const std::string& name, const Path& config, const config::RunConfig& run,
                      bool nominal);

}  // namespace toroid::train
