// A trace of a few steps, for ui.perfetto.dev and chrome://tracing: a process for each rank, a row for each
// of its streams, and the times of all ranks on the first one's clock.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/device/cpu/cpu_device.h"
#include "core/device/observer.h"
#include "parallel/mesh/mesh.h"
#include "train/engine.h"

namespace toroid::train {

// A rank asked another what its clock shows; nanoseconds.
struct ClockSample {
  int64_t asked = 0, answered = 0, heard = 0;  // by the asker's clock, the other's, the asker's
};
// By how much the other's clock is ahead, from the answer that was heard soonest; off by at most half the
// time that this one took.
int64_t clock_offset(std::span<const ClockSample> samples);

class Tracer final : public Observer {
 public:
  // `device` is the one that computes in `engine`; all of them outlive this. UserError, on the first rank,
  // where the file's directory does not exist.
  Tracer(Path file, const config::TraceConfig& window, CpuDevice& device, Engine& engine,
         const mesh::Mesh& mesh);
  ~Tracer() override;
  Tracer(const Tracer&) = delete;  // the device and the program point to it
  Tracer& operator=(const Tracer&) = delete;

  // Around every step, on every rank. The end of the last one that is recorded writes the file: the first
  // rank does, with what the others send it.
  void begin_step(int64_t step);
  void end_step();
  // At the end of a run, which may come before the last step that was to be recorded.
  void close();

  void ran(const Call& call, Span span) override;
  void copied(const Tensor& to, Span span) override;
  void waited(Queue on, Span span) override;
  void transferred(const CollectiveNote& note, Queue queue, Span span) override;

 private:
  using Time = std::chrono::steady_clock::time_point;
  enum class State : uint8_t { before, recording, done };
  struct Entry {
    const char* category = "";
    std::string name, unit, detail;
    Queue row = Queue::compute;
    Span span;
    int64_t step = 0;
    std::optional<Phase> phase;
    std::optional<CollectiveNote> note;
  };
  void add(Entry entry);
  void stop();
  void write();
  void lead();
  void follow();
  // Entries as JSON, after the rank's and the rows' names; `shift` nanoseconds are taken off this rank's
  // clock.
  std::string rows(int64_t shift) const;
  std::vector<int64_t> receive_words(int peer, size_t count);
  void send_words(int peer, std::vector<int64_t> words);

  Path file_;
  int64_t after_, steps_;
  CpuDevice& device_;
  Engine& engine_;
  const mesh::Mesh& mesh_;
  State state_ = State::before;
  int64_t seen_ = 0;  // steps
  std::atomic<int64_t> step_{0};
  Time begin_;
  std::string unit_;
  std::mutex mutex_;  // of entries_, to which two threads add
  std::vector<Entry> entries_;
};

}  // namespace toroid::train
