// The ranks of a job on one machine or several, through OpenMPI's mpirun.
#pragma once

#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid::launch {

struct MpiJob {
  int ranks = 1;
  std::string hosts;  // mpirun's --host list ("a:2,b:2"); empty: this machine
  int threads = 0;    // of each rank's compute team; 0: the cores of a host over its ranks
};

// Shared memory of one job: OpenMPI's segments lie in a directory of their own, which goes with this object,
// so that nothing of a killed job is left and nothing of another one is touched.
class JobDirectory {
 public:
  JobDirectory();
  ~JobDirectory();
  JobDirectory(const JobDirectory&) = delete;  // owns a directory
  JobDirectory& operator=(const JobDirectory&) = delete;
  const Path& path() const { return path_; }

 private:
  Path path_;
};

// mpirun with the flags that OpenMPI 4.1 needs, then this program with `arguments`. `directory` empty: none
// is named.
std::vector<std::string> mpirun_command(const MpiJob& job, const Path& directory,
                                        const std::vector<std::string>& arguments);
// As one would type it, each word quoted where a shell would need it.
std::string shell_text(const std::vector<std::string>& command);
// Runs it to its end, passing on SIGINT and SIGUSR1, and SIGTERM as SIGUSR1 when it comes first; its exit
// code, or 128 + the signal that ended it, and the lost peer's (76) where mpirun says that a rank was killed.
// SystemError where it cannot be started.
int run_command(const std::vector<std::string>& command);

}  // namespace toroid::launch
