// The data pipeline's own checks of its config.
#pragma once

namespace toroid::config {
class DataConfig;
}

namespace toroid::data {

// Throws UserError with the first value out of bounds or the first relation that fails. Names of custom
// sources are checked where their registry is.
void check(const config::DataConfig& data);

}  // namespace toroid::data
