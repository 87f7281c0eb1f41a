// A block of device memory, its owner, and the queues on which it is used.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "core/tensor/tensor.h"

namespace toroid {

class Device;

// Streams are ordered queues. On the CPU the compute queue is the calling thread.
enum class Queue : uint8_t { compute, gather, reduce, model, pod, host };
inline constexpr size_t kQueues = 6;

// The state of a queue after its first `ticket` entries; a value.
struct Event {
  Queue queue = Queue::compute;
  uint64_t ticket = 0;
};

struct Block {
  void* address = nullptr;  // nullptr on a device that holds no numbers
  int64_t bytes = 0;
  Queue home = Queue::compute;
  std::string holder;  // who asked for it, for memory reports: "activations", "workspace"
  std::array<uint64_t, kQueues> read{}, written{};  // ticket of the last use on each queue
};

// Move-only owner of a Block. A free takes effect in the order in which the program issues it.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device* device, Block* block) : device_(device), block_(block) {}
  ~Buffer() { release(); }
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;  // memory has one owner
  Buffer& operator=(const Buffer&) = delete;

  explicit operator bool() const { return block_ != nullptr; }
  Block* block() const { return block_; }
  int64_t bytes() const { return block_ == nullptr ? 0 : block_->bytes; }
  void release();
  // A dense view of `shape` elements from byte `offset` on.
  Tensor view(DType type, Shape shape, int64_t offset_bytes = 0, Layout layout = Layout::plain) const;

 private:
  Device* device_ = nullptr;
  Block* block_ = nullptr;
};

// A tensor with its owner; the owner is empty where the tensor is borrowed (a shard in place, a shared
// segment).
struct Array {
  Tensor tensor;
  Buffer owner;
};

}  // namespace toroid
