// Prepares the batches of the coming steps on its own threads. What it returns depends on the source alone,
// not on the number of threads nor on the step it starts at.
#pragma once

#include <cstdint>
#include <memory>

#include "data/batch/batch.h"

namespace toroid {

class Loader {
 public:
  // Steps first_step .. last_step - 1 of `source`, which must outlive the loader; at most `ahead` batches
  // wait.
  Loader(const BatchSource& source, int64_t first_step, int64_t last_step, int threads, int ahead = 4);
  ~Loader();
  Loader(const Loader&) = delete;  // it owns threads
  Loader& operator=(const Loader&) = delete;

  // The next step's batch, in order; rethrows what the source threw for that step.
  Batch next();

 private:
  class State;
  std::unique_ptr<State> state_;
};

}  // namespace toroid
