// Unix line ends.
#pragma once

#include <memory>
#include <string>

#include "data/filter/filter.h"

namespace toroid::config {
class FilterConfig;
}

namespace toroid {

// CR LF and lone CR become LF.
void unix_line_ends(std::string& text);

std::unique_ptr<Filter> make_line_ends_filter(const config::FilterConfig& config, const std::string& path);

}  // namespace toroid
