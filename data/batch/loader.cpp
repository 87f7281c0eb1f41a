#include "data/batch/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/error.h"

namespace toroid {

// Threads claim steps in order and each builds a whole batch, so a batch never depends on who built it. At
// most `ahead` steps are claimed beyond the one that next() returns.
class Loader::State {
 public:
  State(const BatchSource& source, int64_t first, int64_t last, int threads, int ahead)
      : source_(source), claim_(first), return_(first), last_(last), ahead_(std::max(ahead, 1)) {
    const int count = std::clamp(threads, 1, std::max(ahead, 1));
    for (int i = 0; i < count; ++i) threads_.emplace_back([this] { work(); });
  }

  ~State() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Batch next() {
    std::unique_lock lock(mutex_);
    require(return_ < last_, "the loader is asked for no more steps than it was made for");
    changed_.wait(lock, [this] { return ready_.contains(return_); });
    Result result = std::move(ready_.extract(return_).mapped());
    ++return_;
    lock.unlock();
    changed_.notify_all();
    if (result.error) std::rethrow_exception(result.error);
    return std::move(result.batch);
  }

 private:
  struct Result {
    Batch batch;
    std::exception_ptr error;
  };

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return stop_ || claim_ == last_ || claim_ < return_ + ahead_; });
      if (stop_ || claim_ == last_) return;
      const int64_t step = claim_++;
      lock.unlock();
      Result result;
      try {
        result.batch = source_.batch(step);
      } catch (...) {
        result.error = std::current_exception();
      }
      lock.lock();
      ready_.emplace(step, std::move(result));
      changed_.notify_all();
    }
  }

  const BatchSource& source_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, Result> ready_;
  int64_t claim_, return_, last_;
  int64_t ahead_;
  bool stop_ = false;
  std::vector<std::thread> threads_;  // last: they use what stands above
};

Loader::Loader(const BatchSource& source, int64_t first_step, int64_t last_step, int threads, int ahead)
    : state_(std::make_unique<State>(source, first_step, std::max(first_step, last_step), threads, ahead)) {}
Loader::~Loader() = default;

Batch Loader::next() {
  return state_->next();
}

}  // namespace toroid
