// Chips and schedules by name: files of configs/chips and configs/schedules.
#pragma once

#include <string>
#include <string_view>

#include "core/base/io/file.h"
#include "core/device/sim/chip.h"
#include "simulate/play/schedule.h"

namespace toroid::train {

// `name` is a file, or the stem of one in the folder `chips` beside the recipe `config`, or in configs/chips
// of the working directory or of the tree that the program was built in. UserError where there is none, with
// the names that there are.
sim::Chip read_chip(const std::string& name, const Path& config);
sim::Schedule read_schedule(const std::string& name, const Path& config);

// The text of such a file. UserError, which begins with `name`.
sim::Chip parse_chip(std::string_view text, const std::string& name);
sim::Schedule parse_schedule(std::string_view text, const std::string& name);

}  // namespace toroid::train
