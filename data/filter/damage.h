// Damaged text: repaired, dropped or refused, and counted by what was damaged.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "data/filter/filter.h"

namespace toroid::config {
class FilterConfig;
}

namespace toroid {

// Every byte that is not part of well-formed UTF-8, and every NUL, becomes U+FFFD; a leading byte-order mark
// goes. Returns the number of bytes replaced.
size_t repair_utf8(std::string& text);

std::unique_ptr<Filter> make_damage_filter(const config::FilterConfig& config, const std::string& path);

}  // namespace toroid
