#include "data/batch/loader.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/error.h"

namespace toroid {

// Threads claim batches in order and each builds a whole one, so a batch never depends on who built it. At
// most `ahead` of them are claimed beyond the one that next() returns.
class Loader::State {
 public:
  State(const BatchSource& source, int64_t position, std::function<int64_t(int64_t batch)> sequences,
        int64_t batches, int threads, int ahead)
      : source_(source),
        sequences_(std::move(sequences)),
        position_(position),
        batches_(batches),
        ahead_(std::max(ahead, 1)) {
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
    require(return_ < batches_, "the loader is asked for no more batches than it was made for");
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
      changed_.wait(lock, [this] { return stop_ || claim_ == batches_ || claim_ < return_ + ahead_; });
      if (stop_ || claim_ == batches_) return;
      const int64_t claimed = claim_++, position = position_, count = sequences_(claimed);
      position_ += count;
      lock.unlock();
      Result result;
      try {
        result.batch = source_.batch(position, count);
      } catch (...) {
        result.error = std::current_exception();
      }
      lock.lock();
      ready_.emplace(claimed, std::move(result));
      changed_.notify_all();
    }
  }

  const BatchSource& source_;
  const std::function<int64_t(int64_t batch)> sequences_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<int64_t, Result> ready_;
  int64_t position_;  // of the batch that is claimed next
  int64_t batches_, ahead_;
  int64_t claim_ = 0, return_ = 0;  // the batch that is claimed next, and that is returned next
  bool stop_ = false;
  std::vector<std::thread> threads_;  // last: they use what stands above
};

Loader::Loader(const BatchSource& source, int64_t position, int64_t sequences, int64_t batches, int threads,
               int ahead)
    : Loader(
          source, position, [sequences](int64_t) { return sequences; }, batches, threads, ahead) {}

Loader::Loader(const BatchSource& source, int64_t position, std::function<int64_t(int64_t batch)> sequences,
               int64_t batches, int threads, int ahead)
    : state_(std::make_unique<State>(source, position, std::move(sequences), std::max(batches, int64_t{0}),
                                     threads, ahead)) {}
Loader::~Loader() = default;

Batch Loader::next() {
  return state_->next();
}

}  // namespace toroid
