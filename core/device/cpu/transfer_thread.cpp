#include "core/device/cpu/transfer_thread.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <utility>

#include "core/base/error.h"

namespace toroid::cpu {
namespace {

using std::chrono::microseconds;

constexpr int kSpins = 64;                             // looks before the core is given away
constexpr int kYields = 256;                           // looks that only give it away
constexpr Seconds kWork{20e-6};                        // a look that takes longer has moved something
constexpr microseconds kShortest{20}, kCrowded{2000};  // sleeps between looks after that

Seconds thread_time() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return Seconds(static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec));
}

}  // namespace

TransferThread::TransferThread() : thread_([this] { run(); }) {}

TransferThread::~TransferThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  thread_.join();
}

void TransferThread::set_bell(std::shared_ptr<Bell> bell, bool at_once) {
  const std::lock_guard lock(mutex_);
  bell_ = std::move(bell);
  sleeps_at_once_ = at_once;
}

void TransferThread::call(const std::function<void()>& work) {
  std::promise<void> promise;
  {
    const std::lock_guard lock(mutex_);
    calls_.push_back([&] {
      try {
        work();
        promise.set_value();
      } catch (...) {
        promise.set_exception(std::current_exception());
      }
    });
  }
  work_.notify_one();
  promise.get_future().get();
}

TransferQueues* TransferThread::served(size_t index) {
  const std::lock_guard lock(mutex_);
  return index < served_.size() ? served_[index] : nullptr;
}

void TransferThread::fail(std::exception_ptr failure) {
  std::deque<TransferQueues::Entries> dropped;  // end without the lock
  {
    const std::lock_guard lock(mutex_);
    if (failure_ == nullptr) failure_ = std::move(failure);
    for (TransferQueues* queues : served_) queues->move_all(dropped.emplace_back());
  }
  progress_.notify_all();
}

void TransferThread::end() {
  call([this] { fail(std::make_exception_ptr(SystemError("the ranks of this world part"))); });
}

// One look at the head of each queue; whether anything ended.
bool TransferThread::advance_heads() {
  bool ended = false;
  for (size_t i = 0; TransferQueues* const queues = served(i); ++i) {
    for (size_t queue = 0; queue < kQueues; ++queue) ended = queues->advance(queue) || ended;
  }
  return ended;
}

// Whether whatever the heads wait for is told by the bell.
bool TransferThread::all_ring() {
  const std::lock_guard lock(mutex_);
  return std::all_of(served_.begin(), served_.end(),
                     [](const TransferQueues* queues) { return queues->all_ring(); });
}

void TransferThread::run() {
  int looks = 0;
  microseconds sleep = kShortest;
  while (true) {
    std::shared_ptr<Bell> bell;
    bool at_once = false;
    {
      std::unique_lock lock(mutex_);
      const auto empty = [](const TransferQueues* queues) { return queues->empty(); };
      work_.wait(lock, [&] {
        return stopping_ || !calls_.empty() || !std::all_of(served_.begin(), served_.end(), empty);
      });
      if (!calls_.empty()) {
        const std::function<void()> work = std::move(calls_.front());
        calls_.pop_front();
        lock.unlock();
        work();
        continue;
      }
      if (stopping_) return;
      bell = bell_;
      at_once = sleeps_at_once_;
    }
    const uint32_t rung = bell == nullptr ? 0 : bell->count();  // what rings after the look ends the sleep
    try {
      // The thread's own time: a look that another process interrupted is no longer than it was.
      const Seconds before = thread_time();
      if (advance_heads() || thread_time() - before > kWork) {
        looks = 0;
        sleep = kShortest;
        continue;
      }
    } catch (...) {
      fail(std::current_exception());
      continue;
    }
    const microseconds longest = longest_sleep_.load();
    if (bell != nullptr && at_once && all_ring()) {
      bell->sleep(rung, longest);
      continue;
    }
    const bool crowded = longest >= kCrowded;
    if (++looks < kSpins && !crowded) continue;
    if (looks < kYields && !crowded) {
      std::this_thread::yield();
      continue;
    }
    if (bell == nullptr) {
      std::this_thread::sleep_for(sleep);
    } else {
      bell->sleep(rung, sleep);
    }
    sleep = std::min(2 * sleep, longest);
  }
}

TransferQueues::TransferQueues(std::shared_ptr<TransferThread> thread) : thread_(std::move(thread)) {
  const std::lock_guard lock(thread_->mutex_);
  thread_->served_.push_back(this);
}

TransferQueues::~TransferQueues() {
  thread_->call([this] {
    Entries dropped;  // ends without the lock
    const std::lock_guard lock(thread_->mutex_);
    move_all(dropped);
    std::erase(thread_->served_, this);
  });
}

void TransferQueues::enqueue(Event ticket, std::unique_ptr<Transfer> transfer) {
  {
    const std::lock_guard lock(thread_->mutex_);
    if (thread_->failure_ != nullptr) return;
    queues_[static_cast<size_t>(ticket.queue)].push_back({ticket.ticket, std::move(transfer), {}, false});
    if (thread_->bell_ != nullptr) thread_->bell_->ring();
  }
  thread_->work_.notify_one();
}

void TransferQueues::enqueue_wait(Queue queue, Event on) {
  if (done(on)) return;
  {
    const std::lock_guard lock(thread_->mutex_);
    if (thread_->failure_ != nullptr) return;
    queues_[static_cast<size_t>(queue)].push_back({0, nullptr, on, false});
  }
  thread_->work_.notify_one();
}

bool TransferQueues::done(Event event) const {
  return finished_[static_cast<size_t>(event.queue)].load(std::memory_order_acquire) >= event.ticket;
}

Seconds TransferQueues::under_way() const {
  const std::lock_guard lock(thread_->mutex_);
  Seconds out = under_way_;
  if (begun_ > 0) out += std::chrono::steady_clock::now() - begun_at_;
  return out;
}

void TransferQueues::wait(Event event, Seconds deadline) {
  for (int spin = 0; spin < kSpins; ++spin) {
    if (done(event)) return;
  }
  std::unique_lock lock(thread_->mutex_);
  const auto over = [&] { return done(event) || thread_->failure_ != nullptr; };
  if (deadline.count() <= 0) {
    thread_->progress_.wait(lock, over);
  } else if (!thread_->progress_.wait_for(lock, deadline, over)) {
    throw SystemError("a transfer did not end within " + std::to_string(deadline.count()) + " s");
  }
  if (!done(event)) std::rethrow_exception(thread_->failure_);
}

TransferQueues::Entry* TransferQueues::head(size_t queue) {
  const std::lock_guard lock(thread_->mutex_);
  return queues_[queue].empty() ? nullptr : &queues_[queue].front();
}

void TransferQueues::pop(size_t queue) {
  Entry passed;  // ends without the lock
  const std::lock_guard lock(thread_->mutex_);
  passed = std::move(queues_[queue].front());
  queues_[queue].pop_front();
}

bool TransferQueues::empty() const {
  return std::all_of(queues_.begin(), queues_.end(), [](const auto& queue) { return queue.empty(); });
}

bool TransferQueues::all_ring() const {
  return std::all_of(queues_.begin(), queues_.end(), [](const auto& queue) {
    return queue.empty() || (queue.front().transfer != nullptr && queue.front().transfer->rings());
  });
}

void TransferQueues::move_all(Entries& to) {
  begun_ = 0;
  for (size_t queue = 0; queue < kQueues; ++queue) to[queue].swap(queues_[queue]);
}

void TransferQueues::begin(Entry& entry) {
  entry.begun = true;
  const std::lock_guard lock(thread_->mutex_);
  if (begun_++ == 0) begun_at_ = std::chrono::steady_clock::now();
}

bool TransferQueues::advance(size_t queue) {
  Entry* const entry = head(queue);
  if (entry == nullptr) return false;
  if (entry->transfer == nullptr) {
    if (!done(entry->on)) return false;
    pop(queue);
    return true;
  }
  if (!entry->begun) begin(*entry);
  if (!entry->transfer->advance()) return false;
  const uint64_t ticket = entry->ticket;
  pop(queue);
  {
    const std::lock_guard lock(thread_->mutex_);  // or a waiter could miss it between its look and its sleep
    if (--begun_ == 0) under_way_ += std::chrono::steady_clock::now() - begun_at_;
    finished_[queue].store(ticket, std::memory_order_release);
  }
  thread_->progress_.notify_all();
  return true;
}

}  // namespace toroid::cpu
