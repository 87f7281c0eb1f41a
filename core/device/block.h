// The owner of a block of device memory.
#pragma once

#include <cstdint>

#include "core/tensor/block.h"
#include "core/tensor/tensor.h"

namespace toroid {

class Device;

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
