// A block of device memory, and the queues on which it is used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace toroid {

// Streams are ordered queues. On the CPU the compute queue is the calling thread.
enum class Queue : uint8_t { compute, gather, reduce, model, pod, host };
inline constexpr size_t kQueues = 6;

// The state of a queue after its first `ticket` entries; a value.
struct Event {
  Queue queue = Queue::compute;
  uint64_t ticket = 0;
  uint64_t mark = 0;  // of one that was recorded: its number, by which its time is known
};

using Tickets = std::array<uint64_t, kQueues>;  // the last one on each queue; 0: none

struct Uses {
  Tickets read{}, written{};
};

struct Block {
  void* address = nullptr;  // nullptr on a device that holds no numbers
  int64_t bytes = 0;
  Queue home = Queue::compute;
  std::string holder;       // who asked for it, for memory reports: "activations", "workspace"
  int64_t* held = nullptr;  // what its holder holds of the device's memory, this block included
  int64_t offset = -1;      // where a device without numbers places it; -1: nowhere

  // Of the whole block, or of each of the equal parts into which it is cut.
  std::span<Uses> parts() { return cut_.empty() ? std::span(&whole_, 1) : std::span(cut_); }
  std::span<const Uses> parts() const { return cut_.empty() ? std::span(&whole_, 1) : std::span(cut_); }
  Tickets last_use() const;
  // From now on, who uses one of `count` equal parts waits for those who use that part alone. InternalError
  // the second time, and where parts would not be equal.
  void cut(int64_t count);
  // Those that the bytes [first, end) lie in; none for no bytes of a block that is cut.
  std::span<Uses> parts_of(int64_t first, int64_t end);

 private:
  Uses whole_;  // few blocks are cut: the others do without memory of their own
  std::vector<Uses> cut_;
};

}  // namespace toroid
