// What a host must have before MPI starts ranks there: room in shared memory, files that may be open, memory.
// Found out inside MPI_Init, a lack of it is a report of MPI's of forty lines without our figure, or a signal
// hours later.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace toroid {

// What this host and process have. Bytes; nothing where it cannot be asked or has no limit.
struct HostFacts {
  int cores = 1;
  std::string shared_directory;  // where MPI's segments lie
  std::string shared_problem;    // why nothing can be written there; empty: it can
  std::optional<int64_t> shared_free;
  std::string temporary_directory;  // where mpirun keeps the files of its session
  std::string temporary_problem;
  std::optional<int64_t> open_files;  // that a process may have, its soft limit raised to the hard one
  std::optional<int64_t> memory;      // that this process's group may use
  std::optional<int64_t> memory_available;
  std::optional<int64_t> tasks_left;  // threads that the group may still start
};

// What the ranks of one host need.
struct HostNeeds {
  int ranks = 1;
  int other_ranks = 0;         // on other hosts
  int threads = 1;             // of each rank's compute team
  int64_t bytes_per_rank = 0;  // of a rank's arrays, where that is known
  bool launcher = true;        // mpirun is still to be started, by this process
};

struct Shortage {
  bool fatal = false;  // the ranks cannot start; else they may come to lack it
  std::string text;    // what was found, what is needed, what to do
};

// The gravest first.
std::vector<Shortage> find_shortages(const HostFacts& host, const HostNeeds& needs);

// Bytes that so many ranks of a host take in /dev/shm: to start at all, and at most.
int64_t shared_bytes_to_start(int ranks);
int64_t shared_bytes_at_most(int ranks);
// Files that mpirun or one of the ranks has open at a time, whichever has more.
int64_t open_files_of(const HostNeeds& needs);

HostFacts look_at_host();

// SystemError with the gravest shortage where the ranks cannot start.
void require_host(const HostNeeds& needs);
// And a warning for each that they may come to.
void check_host(const HostNeeds& needs);

// Raises the soft limit on open files to `files`, as far as the hard one goes.
void allow_open_files(int64_t files);

// SystemError where the environment says that mpirun started this process but the mpirun that it names is
// gone: it was copied from a rank of another job.
void check_launcher_is_there();

}  // namespace toroid
