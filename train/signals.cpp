#include "train/signals.h"

#include <atomic>
#include <csignal>

namespace toroid::train {
namespace {

// A handler can reach nothing but a variable of static storage. Atomic, since it may run on any thread.
std::atomic<int> received_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a handler must not wait for a lock");

void note_signal(int signal) {
  received_signal.store(signal);
}

using Handler = void (*)(int);
Handler previous_term = SIG_DFL, previous_usr1 = SIG_DFL;

}  // namespace

SignalGuard::SignalGuard() {
  received_signal.store(0);
  previous_term = std::signal(SIGTERM, note_signal);
  previous_usr1 = std::signal(SIGUSR1, note_signal);
}

SignalGuard::~SignalGuard() {
  std::signal(SIGTERM, previous_term);
  std::signal(SIGUSR1, previous_usr1);
}

int SignalGuard::received() const {
  return received_signal.load();
}

}  // namespace toroid::train
