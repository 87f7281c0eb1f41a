#include "core/device/block.h"

#include <utility>

#include "core/base/error.h"
#include "core/device/device.h"

namespace toroid {

Buffer::Buffer(Buffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)), block_(std::exchange(other.block_, nullptr)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    release();
    device_ = std::exchange(other.device_, nullptr);
    block_ = std::exchange(other.block_, nullptr);
  }
  return *this;
}

void Buffer::release() {
  if (block_ != nullptr) std::exchange(device_, nullptr)->free(std::exchange(block_, nullptr));
}

Tensor Buffer::view(DType type, Shape shape, int64_t offset_bytes, Layout layout) const {
  require(block_ != nullptr, "a view is taken of memory");
  if (layout == Layout::plain) {
    require(offset_bytes + shape.elements() * bytes_of(type) <= block_->bytes,
            "a view lies inside its block");
  }
  return {block_, offset_bytes, type, layout, shape, shape.row_elements()};
}

}  // namespace toroid
