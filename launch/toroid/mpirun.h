// The ranks of a job on one machine or several, through OpenMPI's mpirun.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/io/file.h"
#include "launch/toroid/command.h"
#include "launch/toroid/flight_recorder.h"

namespace toroid::launch {

struct MpiJob {
  int ranks = 1;
  std::string hosts;           // mpirun's --host list ("a:2,b:2"); empty: this machine
  int threads = 0;             // of each rank's compute team; 0: the cores of a host over its ranks
  int64_t bytes_per_rank = 0;  // of its arrays, where that is known
};

// What a rank ends with for an internal error (ExitCode::internal_error): mpirun's own reports end with 1.
inline constexpr int kInternalErrorOfARank = 70;

// mpirun with the flags that OpenMPI 4.1 needs, then this program with `arguments`. `directory`, where the
// ranks' shared memory lies, empty: none is named.
std::vector<std::string> mpirun_command(const MpiJob& job, const Path& directory,
                                        const std::vector<std::string>& arguments);
// As one would type it, each word quoted where a shell would need it.
std::string shell_text(const std::vector<std::string>& command);

// The exit code of a job whose mpirun ended so, by the table of docs/exit_codes.md: the ranks' own where they
// have one. SystemError where mpirun failed and not a rank.
int exit_of_job(const Ended& ended);

// All of it: looks whether this machine has what the ranks need (SystemError says what it lacks), sweeps what
// killed jobs left, runs them, and returns what the ranks ended with, or 128 + the signal that ended them.
// Where a rank was lost or ended by a signal, a report of what the ranks did last goes into the directory
// `run`.
int run_job(const MpiJob& job, const std::vector<std::string>& arguments, const Path& run = {});
// The same, where how mpirun ended is returned, and what the ranks of this machine did last (nothing where
// they have left no record, or are on others).
struct JobEnded {
  Ended ended;
  std::optional<FlightRecord> record;
};
JobEnded run_ranks(const MpiJob& job, const std::vector<std::string>& arguments, SignalForwarding& signals,
                   const Onlooker& onlooker);
// run_job() in a directory that the caller has, of ranks on this machine; one rank needs no mpirun.
int run_job(const MpiJob& job, const Path& directory, const std::vector<std::string>& arguments);

}  // namespace toroid::launch
