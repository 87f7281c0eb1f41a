#include "train/checkpoint/byte_ring.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"

namespace toroid {

template <class There>
bool ByteRing::wait_for(const There& there) const {
  while (true) {
    const uint32_t told = told_;
    if (left_) return false;
    if (there()) return true;
    told_.wait(told);
  }
}

void ByteRing::tell() {
  ++told_;
  told_.notify_all();
}

std::span<std::byte> ByteRing::room(size_t bytes) {
  require(!memory_.empty(), "there is memory to put bytes in");
  if (put_ - taken_ == memory_.size()) hand_over();
  if (!wait_for([&] { return put_ - taken_ < memory_.size(); }))
    throw SystemError("the state is not written any more: the save has failed");
  const size_t at = put_ % memory_.size();
  return memory_.subspan(at, std::min({bytes, memory_.size() - (put_ - taken_), memory_.size() - at}));
}

void ByteRing::put(size_t bytes) {
  put_ += bytes;
}

void ByteRing::hand_over() {
  handed_over_ = put_;
  tell();
}

void ByteRing::take(std::span<std::byte> out) {
  while (!out.empty()) {
    if (!wait_for([&] { return handed_over_ > taken_; }))
      throw SystemError("the state of the step was not handed over: the save was given up");
    const size_t at = taken_ % memory_.size();
    const size_t size = std::min({out.size(), handed_over_ - taken_, memory_.size() - at});
    std::memcpy(out.data(), memory_.data() + at, size);
    taken_ += size;
    tell();
    out = out.subspan(size);
  }
}

void ByteRing::leave() {
  left_ = true;
  tell();
}

}  // namespace toroid
