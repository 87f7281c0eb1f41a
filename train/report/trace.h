// A trace of a few steps, for ui.perfetto.dev and chrome://tracing: a process for each rank, a row for each
// of its streams, and the times of all ranks on the first one's clock.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/io/file.h"
#include "core/device/device.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine.h"

namespace toroid::train {

// A rank asked another what its clock shows; nanoseconds.
struct ClockSample {
  int64_t asked = 0, answered = 0, heard = 0;  // by the asker's clock, the other's, the asker's
};
// By how much the other's clock is ahead, from the answer that was heard soonest; off by at most half the
// time that this one took.
int64_t clock_offset(std::span<const ClockSample> samples);

class Tracer {
 public:
  // `device` is the one that computes in `engine`; all of them outlive this. UserError, on the first rank,
  // where the file's directory does not exist.
  Tracer(Path file, const config::TraceConfig& window, Device& device, Engine& engine,
         const mesh::Mesh& mesh);
  ~Tracer();
  Tracer(const Tracer&) = delete;  // the device and the program are told of one
  Tracer& operator=(const Tracer&) = delete;

  // Around every step, on every rank. The end of the last one that is recorded writes the file, and says so:
  // the first rank does, with what the others send it.
  void begin_step(int64_t step);
  bool end_step();
  // At the end of a run, which may come before the last step that was to be recorded.
  void close();

 private:
  class Collector;
  enum class State : uint8_t { before, recording, done };
  void look_away();
  void write();
  void lead();
  void follow();
  // As JSON: the rank's name, the rows' names and what was recorded, `shift` nanoseconds taken off this
  // rank's clock.
  std::string rows(int64_t shift) const;
  void send_words(int peer, std::span<const int64_t> words);
  std::vector<int64_t> receive_words(int peer, size_t count);

  Path file_;
  int64_t after_, steps_;
  Device& device_;
  Engine& engine_;
  const mesh::Mesh& mesh_;
  State state_ = State::before;
  int64_t seen_ = 0;  // steps
  std::chrono::steady_clock::time_point begin_;
  std::shared_ptr<Collector> collector_;
};

}  // namespace toroid::train
