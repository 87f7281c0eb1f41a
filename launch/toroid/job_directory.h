// Where a job's shared memory lies on this machine, so that nothing of a killed job stays and nothing of
// another one is touched.
#pragma once

#include "core/base/io/file.h"
#include "parallel/comm/side_channel/descriptor.h"

namespace toroid::launch {

// toroid-job-XXXXXX below `parent`, with a file "owner" that this process holds locked and that says who it
// is. It goes with this object; where the process is killed, the kernel takes the lock away, and the next
// start sweeps the directory.
class JobDirectory {
 public:
  explicit JobDirectory(const Path& parent = "/dev/shm");  // SystemError where it cannot be made
  ~JobDirectory();
  JobDirectory(const JobDirectory&) = delete;  // owns a directory
  JobDirectory& operator=(const JobDirectory&) = delete;
  const Path& path() const { return path_; }

 private:
  Path path_;
  Descriptor owner_;
};

// Removes what jobs of this user that were killed have left below `parent`: directories as above and segments
// (parallel/comm/within_host/shared_segment.h) whose lock nobody holds. Another user's and links are not
// touched, and what is not locked yet is left alone for a minute.
void sweep_abandoned(const Path& parent = "/dev/shm");

}  // namespace toroid::launch
