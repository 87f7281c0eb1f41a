#include "train/signals.h"

#include <csignal>

namespace toroid::train {
namespace {

// A handler can reach nothing but a variable of static storage.
volatile std::sig_atomic_t received_signal = 0;

void note_signal(int signal) {
  received_signal = signal;
}

using Handler = void (*)(int);
Handler previous_term = SIG_DFL, previous_usr1 = SIG_DFL;

}  // namespace

SignalGuard::SignalGuard() {
  received_signal = 0;
  previous_term = std::signal(SIGTERM, note_signal);
  previous_usr1 = std::signal(SIGUSR1, note_signal);
}

SignalGuard::~SignalGuard() {
  std::signal(SIGTERM, previous_term);
  std::signal(SIGUSR1, previous_usr1);
}

int SignalGuard::received() const {
  return received_signal;
}

}  // namespace toroid::train
