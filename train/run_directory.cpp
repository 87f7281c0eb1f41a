#include "train/run_directory.h"

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid::train {

bool holds_run(const Path& directory) {
  return is_present(directory / "config.textproto") || is_present(directory / "metrics.jsonl") ||
         is_present(directory / "checkpoints");
}

void claim_run_directory(const Path& directory, const std::string& config_text, bool again, bool resumed) {
  if (holds_run(directory) && !resumed) {
    if (!again) {
      throw UserError(
          "'" + printable(directory.string()) +
          "' already holds a run; give another --out, continue it with --resume, or replace it with "
          "--again");
    }
    for (const char* name : {"config.textproto", "metrics.jsonl", "checkpoints"}) {
      std::error_code error;
      std::filesystem::remove_all(directory / name, error);
      if (error) throw SystemError("cannot remove " + (directory / name).string(), error.value());
    }
  }
  make_directories(directory);
  write_file(directory / "config.textproto", config_text);
}

}  // namespace toroid::train
