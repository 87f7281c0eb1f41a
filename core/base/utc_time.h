// The time of day, for files that people and programs read.
#pragma once

#include <array>
#include <ctime>
#include <string>

namespace toroid {

// Now, UTC, as `format` of strftime says: "2026-01-31T12:00:00Z". Fewer than 64 characters.
inline std::string utc_time(const char* format = "%Y-%m-%dT%H:%M:%SZ") {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), format, &parts)};
}

}  // namespace toroid
