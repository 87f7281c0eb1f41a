// What a test waits for comes in time, or the test says that it did not come: CTest's own limit only ends the
// program.
#pragma once

#include <unistd.h>

#include <chrono>
#include <thread>

namespace toroid::testing {

// Well above what anything here takes on a machine that is busy, and below CTest's limit for a program.
inline constexpr std::chrono::seconds kDeadline{90};

// Looks again and again until it holds; false where it does not by the deadline.
template <class Holds>
[[nodiscard]] bool comes_true(const Holds& holds) {
  const auto end = std::chrono::steady_clock::now() + kDeadline;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// In a child process: it ends by SIGALRM instead of keeping its parent waiting. Stands across exec.
inline void end_by_the_deadline() {
  ::alarm(static_cast<unsigned>(kDeadline.count()));
}

}  // namespace toroid::testing
