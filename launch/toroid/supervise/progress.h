// How far a run is, as its directory shows: looked at from outside, while a job writes there.
#pragma once

#include <cstdint>
#include <optional>

#include "core/base/clock.h"
#include "core/base/io/file.h"
#include "parallel/comm/side_channel/descriptor.h"

namespace toroid::launch {

// The last step that metrics.jsonl has; nothing where it has none.
std::optional<int64_t> last_step(const Path& run);

// Signs of life of a job, and after how long without any it is given up. The limit is learned from the run:
// a multiple of the longest time between two signs so far, and never below a floor, so that ranks which can
// still name who is missing do so first.
class Heartbeat {
 public:
  // `first`: until the first step of a start, in which ranks meet and load what they go on from.
  Heartbeat(Path run, Seconds floor, Seconds first) : run_(std::move(run)), floor_(floor), first_(first) {}

  // Looks for one; `said`: bytes that the job has said, each of which is one; `resumed`: the step that it
  // goes on from, as far as is known.
  void look(int64_t said, int64_t resumed);
  // Of this start: the steps that it has done.
  std::optional<int64_t> step() const { return step_; }
  Seconds silent() const { return since_.elapsed(); }
  Seconds limit() const;
  // A new start: what was learned stays.
  void begin();

 private:
  Path run_;
  Seconds floor_, first_;
  Seconds longest_{0};
  Stopwatch since_;
  int64_t said_ = 0;
  uint64_t mark_ = 0;  // of what the directory showed last
  std::optional<int64_t> step_;
  // The file of metrics that an earlier start left; each has one of its own. It is held open, so that no
  // other takes its number while this start lasts.
  Descriptor rows_before_;
};

}  // namespace toroid::launch
