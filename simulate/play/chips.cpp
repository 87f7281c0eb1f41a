#include "simulate/play/chips.h"

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/sim/chip.pb.h"
#include "train/config/reader.h"

namespace toroid::train {
namespace {

constexpr const char* kEnding = ".textproto";

sim::Chip read(const Path& path) {
  return parse_chip(read_file(path, config::kLargestFile), printable(path.string()));
}

}  // namespace

std::vector<Path> config_folders(const Path& config, const std::string& folder) {
  std::vector<Path> out{config.parent_path() / folder, Path("configs") / folder};
  std::error_code ignored;
  const Path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  // build/<preset>/bin/toroid
  for (Path at = program.parent_path(); at.has_relative_path(); at = at.parent_path())
    out.push_back(at / "configs" / folder);
  return out;
}

sim::Chip parse_chip(std::string_view text, const std::string& name) {
  config::ChipConfig config;
  config::read_text(text, name, config);
  try {
    return sim::make_chip(config);
  } catch (const UserError& error) {
    throw UserError(name + ": " + error.what());
  }
}

sim::Chip read_chip(const std::string& name, const Path& config) {
  if (name.find('/') != std::string::npos || name.ends_with(kEnding)) return read(name);
  std::vector<std::string> known;
  for (const Path& folder : config_folders(config, "chips")) {
    if (const Path file = folder / (name + kEnding); is_reachable(file)) return read(file);
    if (!is_reachable(folder)) continue;
    for (const Path& entry : list_directory(folder)) {
      if (entry.extension() == kEnding) known.push_back(entry.stem().string());
    }
  }
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  std::string list;
  for (const std::string& each : known) list += (list.empty() ? "" : ", ") + each;
  const std::string near = did_you_mean(name, known);
  throw UserError("there is no chip " + in_quotes(name) +
                  (near.empty() ? "" : "; did you mean " + near + "?") +
                  (list.empty() ? "; no configs/chips was found" : "; known are " + list) +
                  ", and a path names any other file");
}

}  // namespace toroid::train
