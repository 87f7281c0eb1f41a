// The one thread that serves queues of communication, of a CPU device and of whoever else has some in this
// process. The head of every queue is in flight; the thread asks each in turn to advance, spins briefly when
// none can, then sleeps between looks, and sleeps for good while there is nothing to do. Libraries that want
// to be called from one thread only (MPI) are called from this one.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/device/transfer.h"
#include "core/tensor/block.h"

namespace toroid::cpu {

// By which other processes end a sleep of the thread.
class Bell {
 public:
  virtual ~Bell() = default;
  virtual uint32_t count() const = 0;  // of its rings so far
  // Sleeps until it has rung more often than `count`, and no longer than `longest`.
  virtual void sleep(uint32_t count, std::chrono::microseconds longest) = 0;
  virtual void ring() = 0;
};

class TransferQueues;

class TransferThread {
 public:
  TransferThread();
  ~TransferThread();
  TransferThread(const TransferThread&) = delete;  // owns a thread
  TransferThread& operator=(const TransferThread&) = delete;

  // The longest sleep between two looks: longer where many ranks share a core, so that those who wait leave
  // it to those who work.
  void set_longest_sleep(std::chrono::microseconds longest) { longest_sleep_ = longest; }
  // nullptr: none. `at_once`: where all that is under way rings, the thread sleeps without looking again, so
  // that ranks that are more than the cores leave them to each other.
  void set_bell(std::shared_ptr<Bell> bell, bool at_once);
  // Runs `work` on the thread, between two looks at the queues, and returns when it has run; rethrows.
  void call(const std::function<void()>& work);
  // Before what transfers go by ends: those that are not done never will be, and nothing further is begun.
  void end();

 private:
  friend class TransferQueues;
  void run();
  bool advance_heads();
  bool all_ring();
  TransferQueues* served(size_t index);
  void fail(std::exception_ptr failure);

  mutable std::mutex mutex_;
  std::condition_variable work_, progress_;
  std::vector<TransferQueues*> served_;  // leave on the thread alone
  std::deque<std::function<void()>> calls_;
  std::exception_ptr failure_;
  std::shared_ptr<Bell> bell_;
  bool sleeps_at_once_ = false;
  bool stopping_ = false;
  std::atomic<std::chrono::microseconds> longest_sleep_{std::chrono::microseconds(1000)};
  std::thread thread_;
};

// The queues of communication of one device. Tickets are its own: a thread serves several devices.
class TransferQueues {
 public:
  explicit TransferQueues(std::shared_ptr<TransferThread> thread);
  // Entries that are not done are dropped; none is being advanced any more.
  ~TransferQueues();
  TransferQueues(const TransferQueues&) = delete;  // the thread knows where it is
  TransferQueues& operator=(const TransferQueues&) = delete;

  // Appends to the ticket's queue; tickets of a queue rise. Once a transfer of the thread has failed, nothing
  // is taken any more.
  void enqueue(Event ticket, std::unique_ptr<Transfer> transfer);
  // What is appended to `queue` from now on starts once `on` is done.
  void enqueue_wait(Queue queue, Event on);

  bool done(Event event) const;
  // How long at least one transfer has been under way, since the start.
  Seconds under_way() const;
  // Returns when `event` is done; rethrows what ended a transfer of the thread. SystemError when `deadline`
  // (zero: none) has passed.
  void wait(Event event, Seconds deadline = Seconds(0));

 private:
  friend class TransferThread;
  struct Entry {
    uint64_t ticket = 0;  // 0: a wait
    std::unique_ptr<Transfer> transfer;
    Event on;
    bool begun = false;
  };
  // On the thread.
  bool advance(size_t queue);  // whether an entry ended
  void begin(Entry& entry);
  Entry* head(size_t queue);
  void pop(size_t queue);
  // With the thread's mutex held.
  bool empty() const;
  bool all_ring() const;
  using Entries = std::array<std::deque<Entry>, kQueues>;
  void move_all(Entries& to);

  std::shared_ptr<TransferThread> thread_;
  Entries queues_;  // a head stays in place while it is advanced
  std::array<std::atomic<uint64_t>, kQueues> finished_{};
  int begun_ = 0;  // heads that have been looked at
  std::chrono::steady_clock::time_point begun_at_;
  Seconds under_way_{0};  // up to the last moment at which none was
};

}  // namespace toroid::cpu
