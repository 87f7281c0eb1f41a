// Constants that were fitted on measurements: configs/calibration.textproto. Those of a chip serve every
// simulation on it; those of another compiler's program serve recipes that are played as that program.
#pragma once

#include <optional>
#include <string>

#include "core/base/io/file.h"
#include "core/device/sim/chip.h"
#include "simulate/play/calibration.pb.h"
#include "simulate/play/program.h"

namespace toroid::train {

// The file beside the recipe `config`, else configs/calibration.textproto of the working directory or of the
// tree that the program was built in. UserError where there is none.
Path calibration_file(const Path& config = {});
// UserError with the file and the entry where one is unknown, missing or out of its bounds.
config::Calibration read_calibration(const Path& file);

// Nothing where the file has no constants of the chip: its data sheet is then all there is.
std::optional<sim::ChipConstants> fitted_constants(const config::Calibration& calibration,
                                                   const std::string& chip);
// UserError with the programs that there are.
ProgramConstants program_constants(const config::Calibration& calibration, const std::string& program);

}  // namespace toroid::train
