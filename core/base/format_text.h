// printf's formats into a string, for tables.
#pragma once

#include <cstdio>
#include <string>

namespace toroid {

// At most 511 characters.
std::string format_text(const char* format, const auto&... values) {
  char text[512];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

}  // namespace toroid
