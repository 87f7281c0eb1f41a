// Work on many threads, results in one order: what comes out is the same for any number of threads.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace toroid {

// Queues of the parts that are being worked on: a ring of 2 x threads of them, a few items each, so that
// memory is bounded. Parts are claimed in order, so the part that the consumer waits for always has a worker.
template <class Item>
class InOrder {
 public:
  using Emit = std::function<void(Item&&)>;
  using Produce = std::function<void(size_t thread, size_t part, const Emit& emit)>;
  using Consume = std::function<void(size_t part, Item&& item)>;
  using PartDone = std::function<void(size_t part)>;

  InOrder(size_t parts, size_t threads) : parts_(parts), threads_(threads), ring_(2 * threads) {}

  // Runs produce(thread, part, emit) for all parts on the team; each emitted item reaches consume on the
  // calling thread, by part and then in the order of emission; part_done follows the part's last item. The
  // exception of the first part that fails, in order of parts, is rethrown after everything before it was
  // consumed.
  void run(const Produce& produce, const Consume& consume, const PartDone& part_done) {
    const Team team(*this, produce);
    for (size_t part = 0; part < parts_; ++part) {
      while (std::optional<Item> item = take(part)) consume(part, std::move(*item));
      part_done(part);
    }
  }

 private:
  static constexpr size_t kItems = 4;  // that wait in one part

  struct Slot {
    std::deque<Item> items;
    bool done = false;
    std::exception_ptr error;
  };

  struct Stopped {};  // ends a producer whose consumer has gone

  // Joins its threads on every way out.
  class Team {
   public:
    Team(InOrder& work, const Produce& produce) : work_(work) {
      for (size_t t = 0; t < work.threads_; ++t) {
        threads_.emplace_back([&work, &produce, t] { work.produce_parts(t, produce); });
      }
    }
    ~Team() {
      {
        const std::lock_guard lock(work_.mutex_);
        work_.stopped_ = true;
      }
      work_.room_.notify_all();
    }
    Team(const Team&) = delete;  // it owns threads
    Team& operator=(const Team&) = delete;

   private:
    InOrder& work_;
    std::vector<std::jthread> threads_;  // destroyed after the body above
  };

  void produce_parts(size_t thread, const Produce& produce) {
    for (;;) {
      std::unique_lock lock(mutex_);
      room_.wait(lock, [&] { return stopped_ || next_ == parts_ || next_ < consumed_ + ring_.size(); });
      if (stopped_ || next_ == parts_) return;
      const size_t part = next_++;
      Slot& slot = ring_[part % ring_.size()];
      lock.unlock();
      std::exception_ptr error;
      try {
        produce(thread, part, [&](Item&& item) { put(slot, std::move(item)); });
      } catch (const Stopped&) {
        return;
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      slot.error = error;
      slot.done = true;
      filled_.notify_one();
    }
  }

  void put(Slot& slot, Item&& item) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return stopped_ || slot.items.size() < kItems; });
    if (stopped_) throw Stopped{};
    slot.items.push_back(std::move(item));
    filled_.notify_one();
  }

  // The next item of `part`, or nothing at its end, where its slot is given to a later part.
  std::optional<Item> take(size_t part) {
    std::unique_lock lock(mutex_);
    Slot& slot = ring_[part % ring_.size()];
    filled_.wait(lock, [&] { return slot.done || !slot.items.empty(); });
    std::optional<Item> item;
    if (!slot.items.empty()) {
      item = std::move(slot.items.front());
      slot.items.pop_front();
    } else if (slot.error) {
      std::rethrow_exception(slot.error);
    } else {
      slot = Slot{};
      ++consumed_;
    }
    room_.notify_all();
    return item;
  }

  const size_t parts_, threads_;
  std::mutex mutex_;
  std::condition_variable room_, filled_;
  std::vector<Slot> ring_;
  size_t next_ = 0, consumed_ = 0;
  bool stopped_ = false;
};

}  // namespace toroid
