// The validation losses that a run has written, by step.
#pragma once

#include <cstdint>
#include <map>

#include "core/base/io/file.h"

namespace toroid::train {

// Read line by line; a line that is no row of metrics.jsonl is passed over, since a run that is being trained
// may be in the middle of one. Empty where there is no such file. A loss that was not finite is left out.
std::map<int64_t, double> validation_losses(const Path& metrics);

}  // namespace toroid::train
