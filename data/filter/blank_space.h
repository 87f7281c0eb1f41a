// Prose without needless blank space.
#pragma once

#include <memory>
#include <string>

#include "data/filter/filter.h"

namespace toroid::config {
class FilterConfig;
}

namespace toroid {

// Trailing blanks of lines go, runs of more than two newlines become two, blank lines at both ends go.
void tidy_blank_space(std::string& text);

std::unique_ptr<Filter> make_blank_space_filter(const config::FilterConfig& config, const std::string& path);

}  // namespace toroid
