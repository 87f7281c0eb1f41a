#include "train/loop/signals.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>

namespace toroid::train {
namespace {

// A handler can reach nothing but a variable of static storage. Atomic, since it may run on any thread.
std::atomic<int> received_signal{0};
std::atomic<int> mpirun_process{0};  // 0: another launcher, or none
static_assert(std::atomic<int>::is_always_lock_free, "a handler must not wait for a lock");

void note_signal(int signal, siginfo_t* info, void*) {
  const bool from_mpirun = signal == SIGTERM && info->si_pid != 0 && info->si_pid == mpirun_process.load();
  received_signal.store(from_mpirun ? SignalGuard::kJobEnds : signal);
}

struct sigaction previous_term {
}, previous_usr1{};

// The parent of a rank that OpenMPI started, mpirun itself or its daemon on another host; 0: it is neither.
int parent_in_openmpi() {
  const int parent = ::getppid();
  std::ifstream file("/proc/" + std::to_string(parent) + "/comm");
  std::string name;
  std::getline(file, name);
  for (const char* known :
       {"mpirun", "mpiexec", "orterun", "orted"}) {  // Debian's are mpirun.openmpi and so on
    if (name.starts_with(known)) return parent;
  }
  return 0;
}

}  // namespace

SignalGuard::SignalGuard() {
  received_signal.store(0);
  mpirun_process.store(parent_in_openmpi());
  struct sigaction action {};
  action.sa_sigaction = note_signal;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGTERM, &action, &previous_term);
  ::sigaction(SIGUSR1, &action, &previous_usr1);
}

SignalGuard::~SignalGuard() {
  ::sigaction(SIGTERM, &previous_term, nullptr);
  ::sigaction(SIGUSR1, &previous_usr1, nullptr);
}

int SignalGuard::received() const {
  return received_signal.load();
}

}  // namespace toroid::train
