// What a vector kernel sees of a tensor, and the question whether it can run a call at all.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/op/op.h"

namespace toroid::cpu {

// Rows of a rank-2 tensor; null where an optional operand is absent.
struct Matrix {
  std::byte* data = nullptr;
  int64_t row_bytes = 0;

  Matrix() = default;
  explicit Matrix(const Tensor& t) {
    if (!t) return;
    data = t.data();
    row_bytes = t.row_stride * bytes_of(t.type);
  }
  explicit operator bool() const { return data != nullptr; }
  template <class T>
  T* row(int64_t r) const {
    return data == nullptr ? nullptr : present_row<T>(r);
  }
  // Of an operand that is there.
  template <class T>
  T* present_row(int64_t r) const {
    return reinterpret_cast<T*>(data + r * row_bytes);
  }
};

// All present tensors have the type of the first, which is bf16 or f32. Kernels leave every other case (f64,
// mixed types) to the reference.
inline bool one_type(std::initializer_list<const Tensor*> tensors) {
  const DType type = (*tensors.begin())->type;
  for (const Tensor* t : tensors) {
    if (*t && t->type != type) return false;
  }
  return type == DType::bf16 || type == DType::f32;
}

inline bool vector_type(const Tensor& t) {
  return t.type == DType::bf16 || t.type == DType::f32;
}

}  // namespace toroid::cpu
