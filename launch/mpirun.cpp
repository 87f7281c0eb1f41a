#include "launch/mpirun.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "core/base/error.h"
#include "core/base/text.h"

namespace toroid::launch {
namespace {

// A handler reaches nothing but variables of static storage.
std::atomic<pid_t> child{0};
std::atomic<bool> asked_to_save{false};

// mpirun hands SIGUSR1 to the ranks and waits, but kills them a second after SIGTERM: the first SIGTERM asks
// them to save and leave, the second one means it.
void pass_on(int signal) {
  const pid_t to = child.load();
  if (to <= 0) return;
  if (signal == SIGTERM && !asked_to_save.exchange(true)) signal = SIGUSR1;
  ::kill(to, signal);
}

// Passes signals on to the child while it lives.
class Forwarding {
 public:
  Forwarding() {
    asked_to_save.store(false);
    for (size_t i = 0; i < kSignals.size(); ++i) {
      struct sigaction action {};
      action.sa_handler = pass_on;
      sigaction(kSignals[i], &action, &before_[i]);
    }
  }
  ~Forwarding() {
    child.store(0);
    for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  }
  Forwarding(const Forwarding&) = delete;  // handlers are the process's
  Forwarding& operator=(const Forwarding&) = delete;

 private:
  static constexpr std::array<int, 3> kSignals{SIGTERM, SIGINT, SIGUSR1};
  std::array<struct sigaction, 3> before_{};
};

int ranks_of_a_host(const MpiJob& job) {
  if (job.hosts.empty()) return job.ranks;
  int most = 1;
  for (size_t at = job.hosts.find(':'); at != std::string::npos; at = job.hosts.find(':', at + 1)) {
    most = std::max(most, std::atoi(job.hosts.c_str() + at + 1));
  }
  return most;
}

}  // namespace

JobDirectory::JobDirectory() {
  std::string name = "/dev/shm/toroid-job-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) throw SystemError("cannot make " + in_quotes(name), errno);
  path_ = name;
}

JobDirectory::~JobDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

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
  if (!directory.empty()) mca("btl_vader_backing_directory", directory.string());
  out.insert(out.end(), {"--bind-to", "none", "--oversubscribe"});
  if (::geteuid() == 0) out.push_back("--allow-run-as-root");
  const int ranks = ranks_of_a_host(job);
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  const int threads = job.threads > 0 ? job.threads : std::max(1, cores / ranks);
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

int run_command(const std::vector<std::string>& command) {
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const Forwarding forwarding;
  const pid_t pid = ::fork();
  if (pid < 0) throw SystemError("cannot start " + in_quotes(command[0]), errno);
  if (pid == 0) {
    ::execvp(words[0], words.data());
    ::_exit(127);
  }
  child.store(pid);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) throw SystemError("cannot wait for " + in_quotes(command[0]), errno);
  }
  if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
  const int code = WEXITSTATUS(status);
  // A rank that was killed: mpirun ends the others before they can say that they lost a peer.
  if (code == 128 + SIGKILL) return static_cast<int>(ExitCode::lost_peer);
  if (code == 127) {
    throw SystemError(in_quotes(command[0]) + " could not be started; install OpenMPI (openmpi-bin)");
  }
  return code;
}

}  // namespace toroid::launch
