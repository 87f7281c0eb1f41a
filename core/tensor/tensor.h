// Tensor: a borrowed view of a block of device memory. It may have no storage (a simulated chip, a dry run):
// only kernels and transports call data().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/tensor/dtype.h"

namespace toroid {

struct Block;  // core/tensor/block.h

// Up to four dimensions of 64-bit extents, row-major.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims);
  int rank() const { return rank_; }
  int64_t operator[](int dim) const { return dims_[static_cast<size_t>(dim)]; }
  int64_t elements() const;
  // Extent of all dimensions after the first; rank 0 and 1 have rows of one element.
  int64_t row_elements() const;
  bool operator==(const Shape&) const = default;
  Shape with_rows(int64_t rows) const;  // in place of the first dimension; rank 0 becomes rank 1
  std::string text() const;             // "[4096, 768]"

 private:
  std::array<int64_t, 4> dims_{};
  int rank_ = 0;
};

// plain: row-major. packed_*: a weight [n, k] rearranged for the device's matrix unit, opaque outside it;
// forward serves y = x W^T, backward serves dx = dy W.
enum class Layout : uint8_t { plain, packed_forward, packed_backward };

struct Tensor {
  Block* block = nullptr;
  int64_t offset_bytes = 0;
  DType type = DType::f32;
  Layout layout = Layout::plain;
  Shape shape;
  int64_t row_stride = 0;  // elements from one index of dim 0 to the next; row_elements() where dense

  explicit operator bool() const { return block != nullptr; }
  bool dense() const { return row_stride == shape.row_elements(); }
  int64_t rows() const { return shape.rank() == 0 ? 1 : shape[0]; }
  int64_t columns() const { return shape.row_elements(); }
  int64_t elements() const { return shape.elements(); }
  int64_t bytes() const { return elements() * bytes_of(type); }  // of the elements, without gaps
  int64_t extent_bytes() const;  // from the first element to the last, with them

  std::byte* data() const;  // nullptr without storage
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data());
  }

  Tensor slice_rows(int64_t first, int64_t count) const;     // along dim 0
  Tensor slice_columns(int64_t first, int64_t count) const;  // of a rank-2 tensor
  Tensor reshape(Shape to) const;                            // of a dense tensor
  std::string text() const;                                  // "bf16[4096, 768]"
};

}  // namespace toroid
