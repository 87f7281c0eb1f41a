#include "core/tensor/tensor.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/tensor/block.h"

namespace toroid {

Shape::Shape(std::initializer_list<int64_t> dims) : rank_(static_cast<int>(dims.size())) {
  require(dims.size() <= 4, "a shape has at most four dimensions");
  size_t i = 0;
  for (const int64_t dim : dims) dims_[i++] = dim;
}

int64_t Shape::elements() const {
  int64_t product = 1;
  for (int i = 0; i < rank_; ++i) product *= (*this)[i];
  return product;
}

int64_t Shape::row_elements() const {
  int64_t product = 1;
  for (int i = 1; i < rank_; ++i) product *= (*this)[i];
  return product;
}

Shape Shape::with_rows(int64_t rows) const {
  Shape out = *this;
  out.rank_ = std::max(out.rank_, 1);
  out.dims_[0] = rows;
  return out;
}

std::string Shape::text() const {
  std::string out = "[";
  for (int i = 0; i < rank_; ++i) out += (i == 0 ? "" : ", ") + std::to_string((*this)[i]);
  return out + "]";
}

std::byte* Tensor::data() const {
  if (block == nullptr || block->address == nullptr) return nullptr;
  return static_cast<std::byte*>(block->address) + offset_bytes;
}

int64_t Tensor::extent_bytes() const {
  if (elements() == 0) return 0;
  return ((rows() - 1) * row_stride + shape.row_elements()) * bytes_of(type);
}

Tensor Tensor::slice_rows(int64_t first, int64_t count) const {
  require(layout == Layout::plain, "rows are sliced of a plain tensor");
  require(first >= 0 && count >= 0 && first + count <= rows(), "a slice of rows lies inside the tensor");
  Tensor out = *this;
  out.offset_bytes += first * row_stride * bytes_of(type);
  require(shape.rank() >= 1, "a scalar has no rows to slice");
  out.shape = shape.with_rows(count);
  return out;
}

Tensor Tensor::slice_columns(int64_t first, int64_t count) const {
  require(layout == Layout::plain && shape.rank() == 2, "columns are sliced of a plain matrix");
  require(first >= 0 && count >= 0 && first + count <= shape[1], "a slice of columns lies inside the matrix");
  Tensor out = *this;
  out.offset_bytes += first * bytes_of(type);
  out.shape = {shape[0], count};
  return out;
}

Tensor Tensor::reshape(Shape to) const {
  require(layout == Layout::plain && dense(), "a dense, plain tensor is reshaped");
  require(to.elements() == elements(), "reshape keeps the number of elements");
  Tensor out = *this;
  out.shape = to;
  out.row_stride = to.row_elements();
  return out;
}

std::string Tensor::text() const {
  return std::string(name_of(type)) + shape.text();
}

}  // namespace toroid
