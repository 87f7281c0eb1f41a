// What a GPU is told, so that its failure can be explained: a fault is seen by a later call than the one that
// made it, and every call after it fails alike.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/tensor/block.h"

namespace toroid::cuda {

class Calls {
 public:
  explicit Calls(int gpu) : gpu_(gpu) {}
  // An operation's name outlives this.
  void issued(Event ticket, std::string_view operation);
  // DeviceError where the call failed: the first one's text, however often it is asked.
  void check(cudaError_t code, std::string_view call);
  bool failed() const { return !failure_.empty(); }
  // "adamw on compute, all_gather on gather"; the last ones, oldest first.
  std::string last_operations() const;

 private:
  struct Operation {
    std::string_view name;
    Queue queue{};
  };
  static constexpr size_t kKept = 8;
  int gpu_;
  std::string failure_;
  std::array<Operation, kKept> last_{};
  uint64_t count_ = 0;
};

}  // namespace toroid::cuda
