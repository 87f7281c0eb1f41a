// Processes of this machine, as /proc has them.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace toroid::launch {

std::vector<pid_t> children_of(pid_t parent);

// A rank that descends from a process.
struct RankProcess {
  int rank = 0;
  pid_t process = 0;
  char state = 'R';  // as in /proc/PID/stat: T stopped by a signal, D waiting for a disk
};
// Those of OpenMPI's ranks below `ancestor` that are on this machine, by rank.
std::vector<RankProcess> ranks_below(pid_t ancestor);

// "rank 1 (process 4711) is stopped by a signal", of those that are; "" where none is.
std::string describe_stopped(const std::vector<RankProcess>& ranks);

}  // namespace toroid::launch
