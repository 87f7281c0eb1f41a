#include "launch/toroid/mpirun.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <iterator>
#include <string_view>
#include <thread>

#include "core/base/error.h"
#include "core/base/text.h"
#include "launch/toroid/job_directory.h"
#include "launch/toroid/node_list.h"
#include "parallel/comm/preflight.h"
#include "parallel/comm/side_channel/descriptor.h"

namespace toroid::launch {
namespace {

// A handler reaches nothing but variables of static storage.
std::atomic<pid_t> child{0};
std::atomic<int64_t> asked_to_save_ms{0};  // when; 0: not yet
std::atomic<int> last_signal{0};

// mpirun hands SIGUSR1 to the ranks and waits, but kills them a second after SIGTERM: the first SIGTERM asks
// them to save and leave, the second one means it. `timeout` and scripts send the first to a process and to
// its group, so that it comes twice.
void pass_on(int signal) {
  last_signal.store(signal);
  const pid_t to = child.load();
  if (to <= 0) return;
  if (signal == SIGTERM) {
    constexpr int64_t kSameRequest = 2000;
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t now_ms = int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000 + 1;
    int64_t asked_ms = 0;
    if (asked_to_save_ms.compare_exchange_strong(asked_ms, now_ms)) {
      signal = SIGUSR1;
    } else if (now_ms - asked_ms < kSameRequest) {
      return;
    }
  }
  ::kill(to, signal);
}

// Passes signals on to the child while it lives. Those that come before there is one wait for it.
class Forwarding {
 public:
  Forwarding() {
    asked_to_save_ms.store(0);
    last_signal.store(0);
    sigset_t ours;
    sigemptyset(&ours);
    for (const int signal : kSignals) sigaddset(&ours, signal);
    sigprocmask(SIG_BLOCK, &ours, &mask_);
    for (size_t i = 0; i < kSignals.size(); ++i) {
      struct sigaction action {};
      action.sa_handler = pass_on;
      sigaction(kSignals[i], &action, &before_[i]);
    }
  }
  ~Forwarding() {
    child.store(0);
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
    sigprocmask(SIG_SETMASK, &mask_, nullptr);
  }
  Forwarding(const Forwarding&) = delete;  // handlers are the process's
  Forwarding& operator=(const Forwarding&) = delete;
  void begin(pid_t to) {
    child.store(to);
    sigprocmask(SIG_SETMASK, &mask_, nullptr);
  }
  // In the child, which such a signal then ends.
  void leave() {
    for (const int signal : kSignals) ::signal(signal, SIG_DFL);
    sigprocmask(SIG_SETMASK, &mask_, nullptr);
  }

 private:
  static constexpr std::array<int, 3> kSignals{SIGTERM, SIGINT, SIGUSR1};
  std::array<struct sigaction, 3> before_{};
  sigset_t mask_{};
};

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

// What one of its ranks has of mpirun, and which would lead another mpirun astray: who its daemon is, and
// which rank of which job it is.
bool is_of_a_rank(std::string_view name) {
  if (name.starts_with("OMPI_COMM_WORLD_") || name.starts_with("PMI_")) return true;
  if (name.starts_with("PMIX_")) return !name.starts_with("PMIX_MCA_");
  constexpr std::string_view kNames[] = {"OMPI_APP_CTX_NUM_PROCS",
                                         "OMPI_ARGV",
                                         "OMPI_COMMAND",
                                         "OMPI_FILE_LOCATION",
                                         "OMPI_FIRST_RANKS",
                                         "OMPI_MCA_ess",
                                         "OMPI_MCA_ess_base_jobid",
                                         "OMPI_MCA_ess_base_vpid",
                                         "OMPI_MCA_initial_wdir",
                                         "OMPI_MCA_orte_app_num",
                                         "OMPI_MCA_orte_bound_at_launch",
                                         "OMPI_MCA_orte_ess_node_rank",
                                         "OMPI_MCA_orte_ess_num_procs",
                                         "OMPI_MCA_orte_hnp_uri",
                                         "OMPI_MCA_orte_jobfam_session_dir",
                                         "OMPI_MCA_orte_launch",
                                         "OMPI_MCA_orte_local_daemon_uri",
                                         "OMPI_MCA_orte_num_nodes",
                                         "OMPI_MCA_orte_precondition_transports",
                                         "OMPI_MCA_orte_top_session_dir",
                                         "OMPI_MCA_pmix",
                                         "OMPI_MCA_shmem_RUNTIME_QUERY_hint",
                                         "OMPI_NUM_APP_CTX",
                                         "OMPI_UNIVERSE_SIZE"};
  return std::find(std::begin(kNames), std::end(kNames), name) != std::end(kNames);
}

std::vector<std::string> environment_of_a_start() {
  std::vector<std::string> out;
  const bool of_a_rank =
      std::getenv("OMPI_COMM_WORLD_RANK") != nullptr || std::getenv("PMIX_RANK") != nullptr;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view text = *each;
    if (!of_a_rank || !is_of_a_rank(text.substr(0, text.find('=')))) out.emplace_back(text);
  }
  return out;
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
  if (!directory.empty()) mca("btl_vader_backing_directory", directory.string());
  out.insert(out.end(), {"--bind-to", "none", "--oversubscribe"});
  if (::geteuid() == 0) out.push_back("--allow-run-as-root");
  const int ranks = ranks_of_a_host(job);
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const int threads = threads_of_a_rank(job);
  out.insert(out.end(), {"-x", "OMP_NUM_THREADS=" + std::to_string(threads)});
  if (ranks * threads > cores) out.insert(out.end(), {"-x", "OMP_WAIT_POLICY=passive"});
  std::error_code error;
  const Path self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) throw SystemError("cannot find this program's own file", error.value());
  out.push_back(self.string());
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

Ended run_command(const std::vector<std::string>& command) {
  std::vector<char*> words, variables;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const std::vector<std::string> environment = environment_of_a_start();
  for (const std::string& each : environment) variables.push_back(const_cast<char*>(each.c_str()));
  variables.push_back(nullptr);
  std::array<int, 2> report{};
  if (::pipe2(report.data(), O_CLOEXEC) != 0) throw SystemError("cannot make a pipe", errno);
  Descriptor read_end(report[0]), write_end(report[1]);
  Forwarding forwarding;
  const pid_t launcher = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw SystemError("cannot start " + in_quotes(command[0]), errno);
  if (pid == 0) {
    // Without its launcher nobody can ask the job to save, and nobody cleans up after it.
    (void)::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != launcher) ::_exit(127);
    // A group of its own: what is sent to the launcher's group is the launcher's to pass on. Ranks read no
    // input.
    (void)::setpgid(0, 0);
    if (const int nothing = ::open("/dev/null", O_RDONLY); nothing >= 0) (void)::dup2(nothing, 0);
    forwarding.leave();
    ::execvpe(words[0], words.data(), variables.data());
    const int error = errno;
    (void)!::write(write_end.get(), &error, sizeof error);
    ::_exit(127);
  }
  forwarding.begin(pid);
  write_end.reset();
  int error = 0;
  ssize_t got = 0;
  do {
    got = ::read(read_end.get(), &error, sizeof error);  // nothing where it was started
  } while (got < 0 && errno == EINTR);
  Ended ended;
  while (::waitpid(pid, &ended.status, 0) < 0) {
    if (errno != EINTR) throw SystemError("cannot wait for " + in_quotes(command[0]), errno);
  }
  if (got == sizeof error) {
    throw SystemError(in_quotes(command[0]) + " could not be started" +
                          (error == ENOENT ? "; install OpenMPI (openmpi-bin)" : ""),
                      error);
  }
  ended.signalled = last_signal.load();
  return ended;
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
  return exit_of_job(run_command(mpirun_command(job, directory, arguments)));
}

int run_job(const MpiJob& job, const std::vector<std::string>& arguments) {
  sweep_abandoned();
  if (!job.hosts.empty()) return run_job(job, Path(), arguments);
  check_machine(job);  // before anything is made
  const JobDirectory directory;
  return exit_of_job(run_command(mpirun_command(job, directory.path(), arguments)));
}

}  // namespace toroid::launch
