// Bytes that one thread hands to another in their order, through memory of a fixed size: the state of a step
// on its way to the disk, while the steps go on. The other one is not woken for each piece, when it would
// take the processor from who is still copying, but once the memory is full or all has been put in. There is
// no lock: the thread that takes out may be without a processor for long, wherever it is.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace toroid {

class ByteRing {
 public:
  // Borrowed; at least a byte, unless nothing is ever put in.
  explicit ByteRing(std::span<std::byte> memory) : memory_(memory) {}

  // For the one that puts in. Room for at most `bytes`, less where the memory ends or is full, and never
  // none: hands over what is there and waits for it. SystemError once the other has left.
  std::span<std::byte> room(size_t bytes);
  void put(size_t bytes);  // that room() gave and that are filled
  void hand_over();        // what has been put in so far
  // For the one that takes out: the next out.size() bytes, once they are handed over. SystemError once the
  // other has left.
  void take(std::span<std::byte> out);
  // Says that no more is put in or taken out; the other one's waits end.
  void leave();

 private:
  // Returns once `there()` or the other has left; whether it is there.
  template <class There>
  bool wait_for(const There& there) const;
  void tell();

  std::span<std::byte> memory_;
  // Bytes so far. put_ is of the one that puts in alone.
  size_t put_ = 0;
  std::atomic<size_t> handed_over_{0}, taken_{0};
  std::atomic<bool> left_{false};
  std::atomic<uint32_t> told_{0};  // rises with each change of the three
};

}  // namespace toroid
