// A run's directory: config.textproto, metrics.jsonl, checkpoints/step-N. One process writes it at a time.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "core/base/io/directory_lock.h"
#include "core/base/io/file.h"
#include "train/checkpoint/checkpoint.h"

namespace toroid::train {

// Whether `directory` holds a run (its config or a checkpoint).
bool holds_run(const Path& directory);

// The directory to write to: `out`, or where that is empty the run of `resume`, a run or a checkpoint.
// UserError for a checkpoint that was set aside in that directory and, without `out`, for one that lies in no
// run's checkpoints and for what is not there.
Path run_directory_of(const Path& out, const Path& resume);

// Whether going on from `resume` in `directory` goes on with the run that `resume` belongs to.
bool goes_on_in(const Path& directory, const Path& resume);

// The directory as its owner has it: the first rank alone.
class RunDirectory {
 public:
  // Takes it, and brings to an end what a stop has left half done. UserError where another process has it,
  // and where it holds a run that is neither gone on with nor, with `again`, to be replaced.
  RunDirectory(const Path& directory, bool again, const Path& resume);

  // Ready for steps after `step`: the files of a run that is replaced go, and steps that are not of the
  // branch of `step`, with their rows of metrics.jsonl, are set aside; then the config is written.
  void begin(int64_t step, const std::string& config_text);

  // A run that goes on with `step`: later steps, and steps of other branches, are set aside likewise.
  void go_back(int64_t step);

  // SystemError where another process has taken the directory; see DirectoryLock.
  void confirm(std::chrono::milliseconds age = std::chrono::milliseconds(0)) { lock_.confirm(age); }

 private:
  Path directory_;
  DirectoryLock lock_;
  bool replaces_ = false, goes_on_ = false;
};

}  // namespace toroid::train
