// Files of configs/ by name: chips, schedules.
#pragma once

#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid::train {

// Where configs/`folder` may be: beside the recipe `config`, in the working directory, in the tree that the
// program was built in.
std::vector<Path> config_folders(const Path& config, const std::string& folder = "");

// `name` is a file, or the stem of one in one of these folders. UserError where there is none, with `what` it
// should have been ("chip") and the names that there are.
Path named_file(const std::string& what, const std::string& name, const std::string& folder,
                const Path& config);

}  // namespace toroid::train
