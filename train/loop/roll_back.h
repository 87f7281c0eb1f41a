// Where a run goes back to when too many steps in a row were skipped.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/io/file.h"
#include "train/checkpoint/checkpoint.h"

namespace toroid::train {

// The newest step of `run` that verifies and has not come to `taken`; where all of them have, the newest that
// verifies and is not past it. Nothing where there is none: damaged ones are named in the log.
std::optional<int64_t> step_to_go_back_to(const Path& run, SequenceRange taken);

}  // namespace toroid::train
