// SIGTERM and SIGUSR1 ask a run to save and leave (exit code 75); the loop looks between steps.
#pragma once

namespace toroid::train {

// Catches the two signals while it lives and restores what was there before. One at a time.
class SignalGuard {
 public:
  // Instead of a signal, and larger than any: OpenMPI's mpirun ends the job. It sends its ranks SIGTERM and a
  // second later SIGKILL, so that there is no time to save.
  static constexpr int kJobEnds = 1000;

  SignalGuard();
  ~SignalGuard();
  SignalGuard(const SignalGuard&) = delete;  // handlers are the process's
  SignalGuard& operator=(const SignalGuard&) = delete;

  // The signal that arrived, or kJobEnds, or 0.
  int received() const;
};

}  // namespace toroid::train
