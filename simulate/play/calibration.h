// Constants of chips that were fitted on measurements: configs/calibration.textproto.
#pragma once

#include <string>

#include "core/base/io/file.h"
#include "core/device/sim/chip.h"
#include "simulate/play/calibration.pb.h"

namespace toroid::train {

// The file beside the recipe `config`, else configs/calibration.textproto of the working directory or of the
// tree that the program was built in. UserError where there is none.
Path calibration_file(const Path& config = {});
// UserError with the file and the entry where one is unknown, missing or out of its bounds.
config::Calibration read_calibration(const Path& file);

// Gives the chip the constants that the file has of it. False where there are none: its data sheet is then
// all there is.
bool set_fitted(const config::Calibration& calibration, sim::Chip& chip);

}  // namespace toroid::train
