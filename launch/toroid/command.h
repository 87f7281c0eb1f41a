// A command that is run to its end: what signals become of, what it says, and that nothing of it stays.
#pragma once

#include <sys/types.h>

#include <array>
#include <csignal>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"

namespace toroid::launch {

// While it lives, the signals that ask this process to end are a running command's: SIGUSR1 as it is, SIGTERM
// as SIGUSR1 when it comes first, so that ranks save and leave; the second one means it. One at a time.
class SignalForwarding {
 public:
  // What SIGINT becomes: itself, which ends ranks at once, or as SIGTERM.
  enum class Interrupt : uint8_t { ends, saves };
  explicit SignalForwarding(Interrupt interrupt = Interrupt::ends);
  ~SignalForwarding();
  SignalForwarding(const SignalForwarding&) = delete;  // handlers are the process's
  SignalForwarding& operator=(const SignalForwarding&) = delete;

  // The last one that came; 0: none.
  int received() const;
  // Until then, or until a signal has come.
  void sleep(Seconds time) const;

 private:
  friend class Command;
  static constexpr std::array kSignals{SIGTERM, SIGINT, SIGUSR1};
  void hold();             // what comes waits
  void release(pid_t to);  // for it to be there
  void leave() const;      // in the command itself, which such a signal then ends
  std::array<struct sigaction, 3> before_{};
  sigset_t mask_{};
};

// What is to become of a running command.
enum class Ask : uint8_t { goes_on, save, end };

// Who looks on while a command runs. Without functions nobody does.
struct Onlooker {
  // What it says on standard error, as it comes; it is passed on to ours.
  std::function<void(std::string_view text)> heard;
  // Asked every so often. `save` sends SIGUSR1, `end` SIGTERM and ten seconds later SIGKILL.
  std::function<Ask()> look;
  Seconds every{0.25};
};

// How a command ended.
struct Ended {
  int status = 0;     // of waitpid
  int signalled = 0;  // the last signal that this process was sent meanwhile; 0: none
  bool stopped_by_onlooker = false;
};

// Runs it to its end. Where this process is killed, the command gets SIGTERM. Its own processes that outlive
// it, stopped ones too, are ended a second later: where mpirun is killed, no rank stays. SystemError where
// it cannot be started.
Ended run_command(const std::vector<std::string>& command, SignalForwarding& signals,
                  const Onlooker& onlooker = {});
Ended run_command(const std::vector<std::string>& command);

}  // namespace toroid::launch
