// When a GPU did what: two events with times around an entry of a queue, read once they have passed, on the
// clock of the host. Nothing here waits for the GPU but align().
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "core/device/cuda/calls.h"
#include "core/device/device.h"
#include "core/device/observer.h"

namespace toroid::cuda {

class Timeline {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // Waits until an event has passed.
  using Wait = std::function<void(cudaEvent_t)>;
  enum class Kind : uint8_t { work, collective, wait };  // wait: of the compute queue, for a collective
  struct Entry {
    Kind kind = Kind::work;
    Queue queue = Queue::compute;
    cudaEvent_t begin = nullptr, end = nullptr;  // of record()
    Observer::Report report = {};
  };

  explicit Timeline(Calls& calls) : calls_(calls) {}
  ~Timeline();
  Timeline(const Timeline&) = delete;  // owns events
  Timeline& operator=(const Timeline&) = delete;

  // Finds out what the host's clock shows when the GPU's passes an event of `stream`. Before all else, and
  // again where the two may have drifted apart.
  void align(cudaStream_t stream, const Wait& wait);
  // An event of the pool, recorded on `stream`.
  cudaEvent_t record(cudaStream_t stream);
  // Keeps its events until both have passed. Entries of one queue come in its order.
  void add(Entry entry);
  // Reads and reports what has passed.
  void collect();
  // Of an event with a time, which has passed.
  Time time_of(cudaEvent_t passed) const;
  // Of what collect() has read of waits and collectives, and of collectives that have begun, what lies
  // between the two.
  CommunicationTime communication(Time from, Time to) const;

 private:
  static constexpr size_t kKept = 65536;  // waits, and collectives: many steps' worth
  bool has_passed(cudaEvent_t event) const;
  void read(Entry& entry);
  static void keep(std::deque<Span>& spans, Span span);

  Calls& calls_;
  std::vector<std::unique_ptr<CUevent_st, void (*)(cudaEvent_t)>> events_;  // all there are
  std::vector<cudaEvent_t> spare_;
  cudaEvent_t origin_ = nullptr;  // from which times are measured
  Time origin_time_;
  std::array<std::deque<Entry>, kQueues> entries_;  // that have not been read
  std::array<Time, kQueues> ends_{};                // of the last one that was
  std::deque<Span> waits_, collectives_;
};

}  // namespace toroid::cuda
