#include "launch/toroid/mpirun.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string_view>
#include <thread>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/text.h"
#include "launch/toroid/job_directory.h"
#include "launch/toroid/node_list.h"
#include "parallel/comm/board/board.h"
#include "parallel/comm/preflight.h"

namespace toroid::launch {
namespace {

int ranks_of_a_host(const MpiJob& job) {
  if (job.hosts.empty()) return job.ranks;
  int most = 1;
  for (size_t at = job.hosts.find(':'); at != std::string::npos; at = job.hosts.find(':', at + 1)) {
    most = std::max(most, std::atoi(job.hosts.c_str() + at + 1));
  }
  return most;
}

int threads_of_a_rank(const MpiJob& job) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  return job.threads > 0 ? job.threads : std::max(1, cores / ranks_of_a_host(job));
}

// mpirun takes hosts only from the nodes of the Slurm job that the environment names.
void check_nodes(const MpiJob& job) {
  const char* const list = std::getenv("SLURM_JOB_NODELIST");
  const char* const id = std::getenv("SLURM_JOB_ID");
  if (job.hosts.empty() || list == nullptr || id == nullptr) return;
  const auto nodes = expand_node_list(list);
  const std::string stray = nodes ? first_host_not_in(job.hosts, *nodes) : "";
  if (stray.empty()) return;
  throw SystemError(
      "--hosts names " + in_quotes(stray) + ", but the environment is of Slurm job " + printable(id) +
      ", whose nodes are " + in_quotes(list) +
      "; name hosts of that job, or unset SLURM_JOB_ID and SLURM_JOB_NODELIST where it is not this one");
}

// Checks for the ranks on this machine; those of other hosts look at theirs (parallel/comm/mpi).
void check_machine(const MpiJob& job) {
  check_nodes(job);
  HostNeeds needs;
  needs.ranks = job.hosts.empty() ? job.ranks : 1;
  needs.other_ranks = job.ranks - needs.ranks;
  needs.threads = threads_of_a_rank(job);
  needs.bytes_per_rank = job.bytes_per_rank;
  check_host(needs);
  allow_open_files(open_files_of(needs));
}

// This program's file.
std::string own_program() {
  std::error_code error;
  const Path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) throw SystemError("cannot find this program's own file", error.value());
  // A program that was built again while this one ran is named so; the ranks are the new one's.
  std::string program = self.string();
  constexpr std::string_view kGone = " (deleted)";
  if (program.ends_with(kGone)) program.resize(program.size() - kGone.size());
  return program;
}

// One rank, which needs no mpirun. Its exit code is the program's own.
int run_alone(const MpiJob& job, const std::vector<std::string>& arguments) {
  std::vector<std::string> command{"env", "OMP_NUM_THREADS=" + std::to_string(threads_of_a_rank(job)),
                                   own_program()};
  command.insert(command.end(), arguments.begin(), arguments.end());
  SignalForwarding signals;
  const Ended ended = run_command(command, signals);
  constexpr auto kInternal = static_cast<int>(ExitCode::internal_error);
  return WIFEXITED(ended.status) && WEXITSTATUS(ended.status) == kInternal ? kInternal : exit_of_job(ended);
}

}  // namespace

std::vector<std::string> mpirun_command(const MpiJob& job, const Path& directory,
                                        const std::vector<std::string>& arguments) {
  std::vector<std::string> out{"mpirun", "-n", std::to_string(job.ranks)};
  const auto mca = [&](const char* name, const std::string& value) {
    out.insert(out.end(), {"--mca", name, value});
  };
  if (!job.hosts.empty()) out.insert(out.end(), {"--host", job.hosts});
  mca("pml", "ob1");
  mca("btl", job.hosts.empty() ? "vader,self" : "tcp,vader,self");
  mca("osc", "^ucx");
  mca("mpi_yield_when_idle", "1");
  if (job.hosts.empty()) {
    // This machine, whatever list of nodes another job has left in the environment or the system's files.
    mca("ras", "^slurm,gridengine,tm,lsf,alps,loadleveler");
    mca("orte_default_hostfile", "none");
  } else if (std::getenv("OMPI_MCA_plm_rsh_args") == nullptr &&
             std::getenv("OMPI_MCA_plm_rsh_agent") == nullptr) {
    mca("plm_rsh_args", "-o BatchMode=yes");  // a question for a password would find no terminal, and wait
  }
  if (!directory.empty()) {
    mca("btl_vader_backing_directory", directory.string());
    out.insert(out.end(), {"-x", std::string(kJobDirectory) + "=" + directory.string()});
  }
  out.insert(out.end(), {"--bind-to", "none", "--oversubscribe"});
  if (::geteuid() == 0) out.push_back("--allow-run-as-root");
  const int ranks = ranks_of_a_host(job);
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const int threads = threads_of_a_rank(job);
  out.insert(out.end(), {"-x", "OMP_NUM_THREADS=" + std::to_string(threads)});
  if (ranks * threads > cores) out.insert(out.end(), {"-x", "OMP_WAIT_POLICY=passive"});
  out.push_back(own_program());
  out.insert(out.end(), arguments.begin(), arguments.end());
  return out;
}

std::string shell_text(const std::vector<std::string>& command) {
  std::string out;
  for (const std::string& word : command) {
    const auto plain = [](char c) {
      return std::isalnum(static_cast<unsigned char>(c)) || std::strchr("-_./:=,+@%^", c);
    };
    if (!out.empty()) out += ' ';
    if (!word.empty() && std::all_of(word.begin(), word.end(), plain)) {
      out += word;
      continue;
    }
    out += '\'';
    for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    out += '\'';
  }
  return out;
}

int exit_of_job(const Ended& ended) {
  const bool exited = WIFEXITED(ended.status);
  const int code = exited ? WEXITSTATUS(ended.status) : 128 + WTERMSIG(ended.status);
  switch (exited ? code : -1) {
    case static_cast<int>(ExitCode::done):
    case static_cast<int>(ExitCode::bad_input):
    case static_cast<int>(ExitCode::system_error):
    case static_cast<int>(ExitCode::saved_on_signal):
    case static_cast<int>(ExitCode::lost_peer):
    case static_cast<int>(ExitCode::too_many_skips):
    case static_cast<int>(ExitCode::corrupted):
      return code;
    case kInternalErrorOfARank:
      return static_cast<int>(ExitCode::internal_error);
    default:
      break;
  }
  if (ended.signalled != 0)
    return 128 + ended.signalled;  // before the ranks could save, or for the second time
  // mpirun says so of the rank that a signal ended, and ends the others before they can say anything.
  switch (code - 128) {
    case SIGKILL:
    case SIGTERM:
      return static_cast<int>(ExitCode::lost_peer);
    case SIGSEGV:
    case SIGABRT:
    case SIGFPE:
    case SIGILL:
      return static_cast<int>(ExitCode::internal_error);
    case SIGBUS:
      throw SystemError(
          "a rank ended on SIGBUS: memory that it shares with others, or a file that it maps, has no "
          "room behind it; make room in /dev/shm and on the disk");
    default:
      throw SystemError("mpirun ended with " + std::to_string(code) +
                        ", which no rank gave; what it says of that stands above");
  }
}

int run_job(const MpiJob& job, const Path& directory, const std::vector<std::string>& arguments) {
  check_machine(job);
  if (job.ranks == 1 && job.hosts.empty()) return run_alone(job, arguments);
  SignalForwarding signals;
  return exit_of_job(run_command(mpirun_command(job, directory, arguments), signals));
}

JobEnded run_ranks(const MpiJob& job, const std::vector<std::string>& arguments, SignalForwarding& signals,
                   const Onlooker& onlooker) {
  sweep_abandoned();
  check_machine(job);  // before anything is made
  std::optional<JobDirectory> directory;
  if (job.hosts.empty()) directory.emplace();
  const Path path = directory ? directory->path() : Path();
  JobEnded out;
  out.ended = run_command(mpirun_command(job, path, arguments), signals, onlooker);
  out.record = read_flight_record(path);
  return out;
}

int run_job(const MpiJob& job, const std::vector<std::string>& arguments, const Path& run) {
  SignalForwarding signals;
  const JobEnded job_ended = run_ranks(job, arguments, signals, {});
  const int code = exit_of_job(job_ended.ended);
  const bool lost =
      code == static_cast<int>(ExitCode::lost_peer) || code == static_cast<int>(ExitCode::internal_error);
  if (lost && job_ended.record && !run.empty()) {
    const std::string name =
        write_hang_report(run, "The job ended with " + std::to_string(code) + ".", *job_ended.record);
    if (!name.empty()) log::info("{} says what each rank did last", printable((run / name).string()));
  }
  return code;
}

}  // namespace toroid::launch
