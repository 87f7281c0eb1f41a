// How far a stage of work is: a bar that is redrawn on a terminal, a plain line now and then elsewhere.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/clock.h"

namespace toroid {

class Progress {
 public:
  // "reading   4,010 of 7,748 files"; writes to standard error.
  Progress(std::string what, int64_t total, std::string unit);
  ~Progress();                         // ends the terminal's line
  Progress(const Progress&) = delete;  // it owns the line
  Progress& operator=(const Progress&) = delete;

  void add(int64_t done);
  // The stage's last line, with its time.
  void finish();

 private:
  void draw();

  std::string what_, unit_;
  int64_t total_, done_ = 0;
  bool terminal_, drawn_ = false, finished_ = false;
  Stopwatch since_start_, since_line_;
};

}  // namespace toroid
