// A block of device memory, and the queues on which it is used.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

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

struct Block {
  void* address = nullptr;  // nullptr on a device that holds no numbers
  int64_t bytes = 0;
  Queue home = Queue::compute;
  std::string holder;  // who asked for it, for memory reports: "activations", "workspace"
  std::array<uint64_t, kQueues> read{}, written{};  // ticket of the last use on each queue
};

}  // namespace toroid
