#include "simulate/play/named_file.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid::train {

std::vector<Path> config_folders(const Path& config, const std::string& folder) {
  std::vector<Path> out{config.parent_path() / folder, Path("configs") / folder};
  std::error_code ignored;
  const Path program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  // build/<preset>/bin/toroid
  for (Path at = program.parent_path(); at.has_relative_path(); at = at.parent_path())
    out.push_back(at / "configs" / folder);
  return out;
}

Path named_file(const std::string& what, const std::string& name, const std::string& folder,
                const Path& config) {
  constexpr const char* kEnding = ".textproto";
  if (name.find('/') != std::string::npos || name.ends_with(kEnding)) return name;
  std::vector<std::string> known;
  for (const Path& in : config_folders(config, folder)) {
    if (Path file = in / (name + kEnding); is_reachable(file)) return file;
    if (!is_reachable(in)) continue;
    for (const Path& entry : list_directory(in)) {
      if (entry.extension() == kEnding) known.push_back(printable(entry.stem().string()));
    }
  }
  std::sort(known.begin(), known.end());
  known.erase(std::unique(known.begin(), known.end()), known.end());
  std::string list;
  for (const std::string& each : known) list += (list.empty() ? "" : ", ") + each;
  const std::string near = did_you_mean(name, known);
  throw UserError("there is no " + what + " " + in_quotes(name) +
                  (near.empty() ? "" : "; did you mean " + near + "?") +
                  (list.empty() ? "; no configs/" + folder + " was found" : "; known are " + list) +
                  ", and a path names any other file");
}

}  // namespace toroid::train
