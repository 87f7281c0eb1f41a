// Faults of what a run has on its disk.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/io/file.h"
#include "train/faults/plan.h"

namespace toroid::faults {

// Flips a bit of a file of the newest checkpoint of the run, the manifest included. Says which; "" where
// there is no checkpoint.
std::string spoil_checkpoint(const Path& run, const Planned& fault, uint64_t seed);

// Fills the file system of a run with a file in its directory, which goes with this object; where the process
// is killed, the next one to remove_filler().
class FullDisk {
 public:
  // Writes at most so many bytes; where more are free it writes none.
  FullDisk(const Path& run, int64_t most);
  ~FullDisk();
  FullDisk(const FullDisk&) = delete;  // owns a file
  FullDisk& operator=(const FullDisk&) = delete;
  bool full() const { return full_; }

 private:
  Path file_;
  bool full_ = false;
};

void remove_filler(const Path& run);

}  // namespace toroid::faults
