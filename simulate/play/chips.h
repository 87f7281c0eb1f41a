// Chips by name: files of configs/chips.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/io/file.h"
#include "core/device/sim/chip.h"

namespace toroid::train {

// Where configs/`folder` may be: beside the recipe `config`, in the working directory, in the tree that the
// program was built in.
std::vector<Path> config_folders(const Path& config, const std::string& folder = "");

// `name` is a file, or the stem of one in the folder `chips` beside the recipe `config`, or in configs/chips
// of the working directory or of the tree that the program was built in. UserError where there is none, with
// the names that there are.
sim::Chip read_chip(const std::string& name, const Path& config);

// The text of such a file. UserError, which begins with `name`.
sim::Chip parse_chip(std::string_view text, const std::string& name);

}  // namespace toroid::train
