// What is no text in UTF-8 at all: binary files, UTF-16, UTF-32.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "data/filter/filter.h"

namespace toroid::config {
class FilterConfig;
}

namespace toroid {

// A NUL among the first 8 KiB: what git and grep call a binary file.
bool looks_binary(std::string_view bytes);

std::unique_ptr<Filter> make_binary_filter(const config::FilterConfig& config, const std::string& path);

}  // namespace toroid
