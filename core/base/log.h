// Logging is spdlog's, to standard error; text from outside is passed through printable() by the caller.
#pragma once

#include <spdlog/spdlog.h>

namespace toroid::log {

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::set_level;
using spdlog::warn;

namespace level = spdlog::level;

}  // namespace toroid::log
