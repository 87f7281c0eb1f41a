#include "core/device/cuda/calls.h"

#include <algorithm>

#include "core/device/device_error.h"

namespace toroid::cuda {
namespace {

constexpr std::array<std::string_view, kQueues> kQueueNames{"compute", "gather", "reduce",
                                                            "model",   "pod",    "host"};

}  // namespace

void Calls::issued(Event ticket, std::string_view operation) {
  last_[count_++ % kKept] = {operation, ticket.queue};
}

std::string Calls::last_operations() const {
  std::string out;
  for (uint64_t i = count_ - std::min<uint64_t>(count_, kKept); i < count_; ++i) {
    const Operation& one = last_[i % kKept];
    out += (out.empty() ? "" : ", ") + std::string(one.name) + " on " +
           std::string(kQueueNames.at(static_cast<size_t>(one.queue)));
  }
  return out;
}

void Calls::check(cudaError_t code, std::string_view call) {
  if (code == cudaSuccess && failure_.empty()) return;
  if (failure_.empty()) {
    failure_ = "GPU " + std::to_string(gpu_) + " failed: " + cudaGetErrorString(code) + " (" +
               cudaGetErrorName(code) + "), seen by " + std::string(call);
    if (count_ > 0) failure_ += "; the last operations issued were " + last_operations();
  }
  throw DeviceError(failure_);
}

}  // namespace toroid::cuda
