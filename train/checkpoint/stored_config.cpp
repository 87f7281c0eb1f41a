#include "train/checkpoint/stored_config.h"

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "train/checkpoint/checkpoint.h"
#include "train/checkpoint/manifest.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {
namespace {

StoredConfig of_step(const Path& step) {
  return {read_manifest(step).state.config, "the config of " + step.string()};
}

}  // namespace

StoredConfig stored_config(const Path& run_or_step) {
  const Path path = run_or_step.has_filename() ? run_or_step : run_or_step.parent_path();
  if (!is_present(path)) {
    throw UserError("there is no checkpoint at " + in_quotes(path.string()) + ": it does not exist");
  }
  if (is_present(path / Manifest::kName)) return of_step(path);
  const Path run = run_of_checkpoint(path);
  if (run != path && path.filename() != "checkpoints") return of_step(path);  // which says what it lacks
  if (const Path file = run / "config.textproto"; is_present(file)) {
    return {read_file(file, int64_t{1} << 20), file.string()};
  }
  const std::vector<int64_t> steps = checkpoint_steps(run);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const Path directory = run / "checkpoints" / step_name(*step);
    try {
      return of_step(directory);
    } catch (const Error& error) {
      log::warn("{} has no config to read: {}", printable(directory.string()), error.what());
    }
  }
  throw UserError(in_quotes(path.string()) +
                  " holds no config: it has neither config.textproto nor a whole "
                  "checkpoints/step-N; give the directory of a run or of one of its checkpoints, or --config "
                  "FILE as well");
}

}  // namespace toroid
