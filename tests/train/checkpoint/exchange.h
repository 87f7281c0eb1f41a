// What ranks that are threads tell each other while they save.
#pragma once

#include <condition_variable>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/deadline.h"
#include "train/checkpoint/checkpoint.h"

namespace toroid {

// What every rank says, on every rank.
class Exchange {
 public:
  explicit Exchange(int ranks) : texts_(static_cast<size_t>(ranks)) {}
  SaveGroup group(int rank) {
    const int ranks = static_cast<int>(texts_.size());
    return {{rank, ranks}, [this, rank](const std::string& text) {
              texts_[static_cast<size_t>(rank)] = text;
              meet();
              std::vector<std::string> all = texts_;
              meet();
              return all;
            }};
  }

 private:
  void meet() {
    std::unique_lock lock(mutex_);
    const int64_t round = round_;
    if (++here_ == texts_.size()) {
      here_ = 0;
      ++round_;
      all_here_.notify_all();
    } else if (!all_here_.wait_for(lock, testing::kDeadline, [&] { return round_ != round; })) {
      throw std::runtime_error("not every rank came to the exchange");
    }
  }

  std::vector<std::string> texts_;
  std::mutex mutex_;
  std::condition_variable all_here_;
  size_t here_ = 0;
  int64_t round_ = 0;
};

}  // namespace toroid
