#include "launch/toroid/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <iterator>
#include <optional>
#include <set>

#include "core/base/error.h"
#include "core/base/text.h"
#include "launch/toroid/processes.h"
#include "parallel/comm/board/board.h"
#include "parallel/comm/side_channel/descriptor.h"

namespace toroid::launch {
namespace {

// A handler reaches nothing but variables of static storage.
std::atomic<pid_t> child{0};
std::atomic<int64_t> asked_to_save_ms{0};  // when; 0: not yet
std::atomic<int> last_signal{0};
std::atomic<bool> interrupt_saves{false};

// mpirun hands SIGUSR1 to the ranks and waits, but kills them a second after SIGTERM: the first SIGTERM asks
// them to save and leave, the second one means it. `timeout` and scripts send the first to a process and to
// its group, so that it comes twice.
void pass_on(int signal) {
  last_signal.store(signal);
  const pid_t to = child.load();
  if (to <= 0) return;
  if (signal == SIGTERM || (signal == SIGINT && interrupt_saves.load())) {
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
                                         "OMPI_UNIVERSE_SIZE",
                                         kJobDirectory};
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

constexpr Seconds kGrace{1};      // for processes that mpirun has left
constexpr Seconds kPatience{10};  // from SIGTERM to SIGKILL

// Processes of the command that outlive it become ours, since this process adopts them, and are ended.
class Adoption {
 public:
  Adoption() {
    (void)::prctl(PR_SET_CHILD_SUBREAPER, 1);
    for (const pid_t process : children_of(::getpid())) before_.insert(process);
  }
  ~Adoption() { (void)::prctl(PR_SET_CHILD_SUBREAPER, 0); }
  Adoption(const Adoption&) = delete;  // a state of the process
  Adoption& operator=(const Adoption&) = delete;

  void end_what_is_left() const {
    const Stopwatch since;
    for (;;) {
      bool any = false;
      for (const pid_t process : children_of(::getpid())) {
        if (before_.contains(process) || ::waitpid(process, nullptr, WNOHANG) == process) continue;
        any = true;
        if (since.elapsed() > kGrace) (void)::kill(process, SIGKILL);
      }
      if (!any || since.elapsed() > kGrace + kPatience) return;
      ::usleep(20'000);
    }
  }

 private:
  std::set<pid_t> before_;
};

}  // namespace

SignalForwarding::SignalForwarding(Interrupt interrupt) {
  asked_to_save_ms.store(0);
  last_signal.store(0);
  child.store(0);
  interrupt_saves.store(interrupt == Interrupt::saves);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    struct sigaction action {};
    action.sa_handler = pass_on;
    sigaction(kSignals[i], &action, &before_[i]);
  }
  sigprocmask(SIG_BLOCK, nullptr, &mask_);
}

SignalForwarding::~SignalForwarding() {
  child.store(0);
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before_[i], nullptr);
  sigprocmask(SIG_SETMASK, &mask_, nullptr);
}

int SignalForwarding::received() const {
  return last_signal.load();
}

void SignalForwarding::sleep(Seconds time) const {
  const Stopwatch since;
  while (last_signal.load() == 0 && since.elapsed() < time) ::usleep(50'000);
}

void SignalForwarding::hold() {
  sigset_t ours;
  sigemptyset(&ours);
  for (const int signal : kSignals) sigaddset(&ours, signal);
  sigprocmask(SIG_BLOCK, &ours, &mask_);
}

void SignalForwarding::release(pid_t to) {
  asked_to_save_ms.store(0);
  child.store(to);
  // One that came before there was a command to have it.
  if (const int early = last_signal.load(); early != 0 && to > 0) pass_on(early);
  sigprocmask(SIG_SETMASK, &mask_, nullptr);
}

void SignalForwarding::leave() const {
  for (const int signal : kSignals) ::signal(signal, SIG_DFL);
  sigprocmask(SIG_SETMASK, &mask_, nullptr);
}

// One run of one command.
class Command {
 public:
  Command(const std::vector<std::string>& words, SignalForwarding& signals, const Onlooker& onlooker)
      : name_(in_quotes(words[0])), signals_(signals), onlooker_(onlooker) {
    start(words);
  }
  Ended wait() {
    Ended ended;
    ended.status = watch();
    ended.signalled = signals_.received();
    ended.stopped_by_onlooker = stopping_.has_value();
    child.store(0);
    adoption_.end_what_is_left();
    pump(Seconds(1));
    return ended;
  }

 private:
  void start(const std::vector<std::string>& command);
  [[noreturn]] void become(const std::vector<char*>& words, const std::vector<char*>& variables,
                           pid_t launcher, int report, int says) const;
  int watch();
  void act();
  // Takes what is said until there is nothing for so long, or the end of it.
  void pump(Seconds time);

  std::string name_;
  SignalForwarding& signals_;
  const Onlooker& onlooker_;
  Adoption adoption_;
  pid_t pid_ = 0;
  Descriptor said_;
  std::optional<Stopwatch> stopping_;
  Stopwatch looked_;
};

void Command::start(const std::vector<std::string>& command) {
  std::vector<char*> words, variables;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  const std::vector<std::string> environment = environment_of_a_start();
  for (const std::string& each : environment) variables.push_back(const_cast<char*>(each.c_str()));
  variables.push_back(nullptr);
  std::array<int, 2> report{}, says{};
  if (::pipe2(report.data(), O_CLOEXEC) != 0) throw SystemError("cannot make a pipe", errno);
  Descriptor read_end(report[0]), write_end(report[1]);
  Descriptor says_end;
  if (onlooker_.heard) {
    if (::pipe2(says.data(), O_CLOEXEC) != 0) throw SystemError("cannot make a pipe", errno);
    said_ = Descriptor(says[0]);
    says_end = Descriptor(says[1]);
  }
  signals_.hold();
  const pid_t launcher = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) become(words, variables, launcher, write_end.get(), says_end.get());
  const int failed = errno;
  signals_.release(std::max(pid_, 0));
  if (pid_ < 0) throw SystemError("cannot start " + name_, failed);
  write_end.reset();
  int error = 0;
  ssize_t got = 0;
  do {
    got = ::read(read_end.get(), &error, sizeof error);  // nothing where it was started
  } while (got < 0 && errno == EINTR);
  if (got != sizeof error) return;
  (void)::waitpid(pid_, nullptr, 0);
  child.store(0);
  throw SystemError(
      name_ + " could not be started" + (error == ENOENT ? "; install OpenMPI (openmpi-bin)" : ""), error);
}

void Command::become(const std::vector<char*>& words, const std::vector<char*>& variables, pid_t launcher,
                     int report, int says) const {
  // Without its launcher nobody can ask the job to save, and nobody cleans up after it.
  (void)::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != launcher) ::_exit(127);
  // A group of its own: what is sent to the launcher's group is the launcher's to pass on. Ranks read no
  // input.
  (void)::setpgid(0, 0);
  if (const int nothing = ::open("/dev/null", O_RDONLY); nothing >= 0) (void)::dup2(nothing, 0);
  if (says >= 0) (void)::dup2(says, 2);
  signals_.leave();
  ::execvpe(words[0], words.data(), variables.data());
  const int error = errno;
  (void)!::write(report, &error, sizeof error);
  ::_exit(127);
}

int Command::watch() {
  const bool looks = onlooker_.heard || onlooker_.look;
  for (;;) {
    int status = 0;
    const pid_t got = ::waitpid(pid_, &status, looks ? WNOHANG : 0);
    if (got == pid_) return status;
    if (got < 0 && errno != EINTR) throw SystemError("cannot wait for " + name_, errno);
    if (!looks) continue;
    pump(Seconds(0.05));
    act();
  }
}

void Command::act() {
  if (stopping_ && stopping_->elapsed() > kPatience) (void)::kill(pid_, SIGKILL);
  if (!onlooker_.look || stopping_ || looked_.elapsed() < onlooker_.every) return;
  looked_.restart();
  switch (onlooker_.look()) {
    case Ask::goes_on:
      break;
    case Ask::save:
      (void)::kill(pid_, SIGUSR1);
      break;
    case Ask::end:
      stopping_.emplace();
      (void)::kill(pid_, SIGTERM);
      (void)::kill(pid_, SIGCONT);
      break;
  }
}

void Command::pump(Seconds time) {
  if (said_.get() < 0) {
    ::usleep(static_cast<useconds_t>(1e6 * std::min(time.count(), 0.05)));
    return;
  }
  constexpr int kAtOnce = 16;  // reads, whatever more there is
  for (int i = 0; i < kAtOnce; ++i) {
    pollfd wait{said_.get(), POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(1000 * time.count())) <= 0) return;
    std::array<char, 65536> buffer;
    const ssize_t got = ::read(said_.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      said_.reset();
      return;
    }
    const std::string_view text(buffer.data(), static_cast<size_t>(got));
    (void)!::write(2, text.data(), text.size());
    onlooker_.heard(text);
  }
}

Ended run_command(const std::vector<std::string>& command, SignalForwarding& signals,
                  const Onlooker& onlooker) {
  return Command(command, signals, onlooker).wait();
}

Ended run_command(const std::vector<std::string>& command) {
  SignalForwarding signals;
  return run_command(command, signals);
}

}  // namespace toroid::launch
