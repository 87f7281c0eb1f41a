// A device that runs ahead, over kernels of the host: what an accelerator does to a program that believes
// that a call is over when it returns, or that memory is the host's.
//   Every queue is a thread; launches, copies, transfers and writes return at once, entries start after
//   random delays, and the program's waits are all that holds them back. Tensor::data() is an address that
//   the host must not touch: an access ends the process. Kernels see the same memory elsewhere; a transfer's
//   operands are open while its entry runs. Memory is an arena's, so that it is handed on while queues still
//   use it. It is filled with NaN when it is free and nobody uses it any more, and again by the first entry
//   that uses it for its next owner.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string_view>
#include <thread>
#include <vector>

#include "core/device/arena.h"
#include "core/device/device.h"

namespace toroid::testing {

// One piece of memory at two addresses.
class TwoViews {
 public:
  explicit TwoViews(int64_t bytes);
  ~TwoViews();
  TwoViews(const TwoViews&) = delete;  // owns memory
  TwoViews& operator=(const TwoViews&) = delete;

  static constexpr int64_t kPage = 4096;
  std::byte* closed(int64_t offset) const { return closed_ + offset; }
  std::byte* open(int64_t offset) const { return open_ + offset; }
  int64_t offset(const void* closed) const { return static_cast<const std::byte*>(closed) - closed_; }
  // Lets the host into pages of the closed view, or no longer; of several that let it in the last one ends
  // it.
  void let_in(int64_t offset, int64_t bytes);
  void shut_out(int64_t offset, int64_t bytes);

 private:
  int64_t bytes_;
  std::byte *closed_ = nullptr, *open_ = nullptr;
  std::mutex mutex_;
  std::map<int64_t, int> inside_;  // by offset
};

class AsynchronousDevice : public Device {
 public:
  struct Options {
    int64_t bytes = int64_t{256} << 20;
    std::chrono::microseconds longest_delay{100};
    uint64_t seed = 1;  // of the delays
  };
  explicit AsynchronousDevice(std::shared_ptr<const DeviceKernels> kernels)
      : AsynchronousDevice(std::move(kernels), Options()) {}
  AsynchronousDevice(std::shared_ptr<const DeviceKernels> kernels, const Options& options);
  // Runs what has been issued; nothing more once an entry has failed.
  ~AsynchronousDevice() override;

  void synchronize(Event event, Seconds deadline) override;
  // Waits for both.
  Seconds elapsed(Event from, Event to) const override;
  std::string_view name() const override { return "asynchronous"; }

 protected:
  void on_allocate(Block& block) override;
  void on_free(const Block& block) override;
  void on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context, Event ticket) override;
  void on_copy(const Tensor& to, const Tensor& from, Event ticket) override;
  void on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                   const CollectiveInfo& info, Event ticket) override;
  void on_record(Event event) override;
  void on_wait(Queue queue, Event event) override;
  void on_write(const Tensor& to, std::span<const std::byte> from, Event ticket) override;
  void on_read(const Tensor& from, std::span<std::byte> to, Event ticket) override;

 private:
  using Clock = std::chrono::steady_clock;
  struct Region {
    int64_t offset = 0, bytes = 0;
  };
  struct Entry {
    uint64_t ticket = 0;  // 0: it has none
    std::function<void()> run;
    std::optional<Event> on;    // of a wait
    std::vector<Region> fresh;  // that nobody has used for its owner
  };
  struct Freed {
    Region region;
    Tickets last_use;
  };
  void run(size_t queue);
  void push(Queue queue, Entry entry);
  void push(Event ticket, std::span<const Tensor> operands, std::function<void()> run);
  void take_fresh(const void* address, std::vector<Region>& to);
  void poison(const Region& region);
  bool passed(const Tickets& tickets) const;
  void poison_freed();
  void wait(const std::function<bool()>& over) const;
  std::byte* at(const Tensor& tensor) const;

  TwoViews memory_;
  DeviceArena arena_;
  Options options_;
  std::map<int64_t, int64_t> fresh_;  // bytes by offset; the issuing thread's

  mutable std::mutex mutex_;  // of all that follows
  mutable std::condition_variable changed_;
  std::array<std::deque<Entry>, kQueues> queues_;
  Tickets issued_{}, finished_{};
  std::vector<Freed> freed_;
  std::map<uint64_t, Clock::time_point> recorded_;  // by mark
  std::exception_ptr failure_;
  bool stopping_ = false;

  std::mutex transport_;  // transports are called by one thread at a time
  std::vector<std::thread> threads_;
};

}  // namespace toroid::testing
