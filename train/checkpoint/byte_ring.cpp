#include "train/checkpoint/byte_ring.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"

namespace toroid {

std::span<std::byte> ByteRing::room(size_t bytes) {
  require(!memory_.empty(), "there is memory to put bytes in");
  std::unique_lock lock(lock_);
  moved_.wait(lock, [&] { return left_ || put_ - taken_ < memory_.size(); });
  if (left_) throw SystemError("the state is not written any more: the save has failed");
  const size_t at = put_ % memory_.size();
  return memory_.subspan(at, std::min({bytes, memory_.size() - (put_ - taken_), memory_.size() - at}));
}

void ByteRing::put(size_t bytes) {
  const std::lock_guard lock(lock_);
  put_ += bytes;
  moved_.notify_all();
}

void ByteRing::take(std::span<std::byte> out) {
  while (!out.empty()) {
    std::unique_lock lock(lock_);
    moved_.wait(lock, [&] { return left_ || put_ > taken_; });
    if (left_) throw SystemError("the state of the step was not handed over: the save was given up");
    const size_t at = taken_ % memory_.size();
    const size_t size = std::min({out.size(), put_ - taken_, memory_.size() - at});
    lock.unlock();
    std::memcpy(out.data(), memory_.data() + at, size);
    lock.lock();
    taken_ += size;
    moved_.notify_all();
    out = out.subspan(size);
  }
}

void ByteRing::leave() {
  const std::lock_guard lock(lock_);
  left_ = true;
  moved_.notify_all();
}

}  // namespace toroid
