// Durations are Seconds; nothing else in the program reads a clock.
#pragma once

#include <chrono>

namespace toroid {

using Seconds = std::chrono::duration<double>;

class Stopwatch {
 public:
  Seconds elapsed() const { return std::chrono::steady_clock::now() - start_; }
  void restart() { start_ = std::chrono::steady_clock::now(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace toroid
