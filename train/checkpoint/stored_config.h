// The config that a run or a checkpoint was made with, to go on with it where no other is given.
#pragma once

#include <string>

#include "core/base/io/file.h"

namespace toroid {

struct StoredConfig {
  std::string text;
  std::string origin;  // for messages: the file, or whose manifest holds it
};

// For a step-N directory what its manifest holds; for a run its config.textproto, else that of its newest
// step whose manifest can be read. UserError where there is none, SystemError where it cannot be read.
StoredConfig stored_config(const Path& run_or_step);

}  // namespace toroid
