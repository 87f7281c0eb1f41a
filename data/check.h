// The data pipeline's own checks of its config.
#pragma once

#include <string>

namespace toroid::config {
class DataConfig;
}

namespace toroid::data {

// Throws UserError with the first value out of bounds or the first relation that fails. Names of custom
// sources and filters are checked where their registry is.
void check(const config::DataConfig& data);

// What errors call one filter of one source: "data.source[0].filter[1]".
std::string filter_path(int source, int filter);

}  // namespace toroid::data
