#include "train/host_figures.h"

#include <google/protobuf/text_format.h>

#include <cstdlib>

#include "core/base/error.h"
#include "core/base/log.h"

namespace toroid::train {

Path host_figures_path() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache != '\0') {
    return Path(cache) / "toroid" / "host.textproto";
  }
  const char* home = std::getenv("HOME");
  return Path(home != nullptr ? home : "/tmp") / ".cache" / "toroid" / "host.textproto";
}

std::optional<config::HostFigures> read_host_figures() {
  const Path path = host_figures_path();
  if (!std::filesystem::exists(path)) return std::nullopt;
  config::HostFigures figures;
  google::protobuf::TextFormat::Parser parser;
  parser.SetRecursionLimit(16);
  try {
    if (parser.ParseFromString(read_file(path, 1 << 20), &figures)) return figures;
  } catch (const Error& error) {
    log::warn("{}", error.what());
    return std::nullopt;
  }
  log::warn("{} is not a file of `toroid doctor`; run it again to measure this machine", path.string());
  return std::nullopt;
}

}  // namespace toroid::train
