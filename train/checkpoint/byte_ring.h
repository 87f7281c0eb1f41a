// Bytes that one thread hands to another in their order, through memory of a fixed size: the state of a step
// on its way to the disk, while the steps go on.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <span>

namespace toroid {

class ByteRing {
 public:
  // Borrowed; at least a byte, unless nothing is ever put in.
  explicit ByteRing(std::span<std::byte> memory) : memory_(memory) {}

  // For the one that puts in. Room for at most `bytes`, less where the memory ends or is full, and never
  // none: waits for it. SystemError once the other has left.
  std::span<std::byte> room(size_t bytes);
  void put(size_t bytes);  // that room() gave and that are filled
  // For the one that takes out: the next out.size() bytes, once they are there. SystemError once the other
  // has left.
  void take(std::span<std::byte> out);
  // Says that no more is put in or taken out; the other one's waits end.
  void leave();

 private:
  std::span<std::byte> memory_;
  std::mutex lock_;
  std::condition_variable moved_;
  size_t put_ = 0, taken_ = 0;  // bytes so far
  bool left_ = false;
};

}  // namespace toroid
