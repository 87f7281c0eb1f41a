// Documents that are too short or too long, in bytes or words.
#pragma once

#include <memory>
#include <string>

#include "data/filter/filter.h"

namespace toroid::config {
class FilterConfig;
}

namespace toroid {

std::unique_ptr<Filter> make_length_filter(const config::FilterConfig& config, const std::string& path);

}  // namespace toroid
