// Prepares the coming batches on its own threads. What it returns depends on the source alone, not on the
// number of threads nor on the position it starts at.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "data/batch/batch.h"

namespace toroid {

class Loader {
 public:
  // So many batches of `sequences` sequences each, the first of them at `position` of `source`, which must
  // outlive the loader; at most `ahead` batches wait.
  Loader(const BatchSource& source, int64_t position, int64_t sequences, int64_t batches, int threads,
         int ahead = 4);
  // Batch i, counted from 0, has sequences(i) of them.
  Loader(const BatchSource& source, int64_t position, std::function<int64_t(int64_t batch)> sequences,
         int64_t batches, int threads, int ahead = 4);
  ~Loader();
  Loader(const Loader&) = delete;  // it owns threads
  Loader& operator=(const Loader&) = delete;

  // The next batch, in order; rethrows what the source threw for it.
  Batch next();

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace toroid
