#include "core/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

namespace toroid::log {
namespace {

// spdlog's own default writes to standard output.
spdlog::logger& logger() {
  static spdlog::logger to_stderr("", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  return to_stderr;
}

spdlog::level::level_enum of(Level level) {
  switch (level) {
    case Level::info:
      return spdlog::level::info;
    case Level::warn:
      return spdlog::level::warn;
    case Level::error:
      break;
  }
  return spdlog::level::err;
}

}  // namespace

void set_level(Level level) {
  logger().set_level(of(level));
}

void write(Level level, std::string_view line) {
  logger().log(of(level), "{}", line);
}

}  // namespace toroid::log
