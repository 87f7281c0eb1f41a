// Rearranging matrices for products: weights (kernel `pack`) and the blocks that other kernels pack on the
// way. Every function works on one thread and may be called from many on disjoint parts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/device/cpu/bf16_products.h"
#include "core/device/cpu/onednn.h"
#include "core/op/op.h"

namespace toroid::cpu {

// Rows of a matrix, possibly stacked from several tensors. Values are rounded to `value_type` on the way.
class RowSource {
 public:
  RowSource() = default;
  explicit RowSource(const Tensor& t) { add(t); }
  void add(const Tensor& t);
  void add(const std::byte* data, DType type, int64_t row_stride, int64_t rows, int64_t columns);
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  // The rows [first, first + count) alone.
  RowSource slice(int64_t first, int64_t count) const;

  struct Row {
    const std::byte* data;
    DType type;
  };
  Row row(int64_t r, int64_t first_column) const;

 private:
  struct Part {
    const std::byte* data = nullptr;
    DType type = DType::f32;
    int64_t row_stride = 0, end = 0;  // end: rows of this and the earlier parts
  };
  std::array<Part, 8> parts_{};
  size_t count_ = 0;
  int64_t first_ = 0, rows_ = 0, columns_ = 0;
};

// B[k, n] = source[n, k]: writes the n-blocks [first, last) of `packed`.
void pack_transposed(const RowSource& source, DType value_type, const PackedFormat& format, int64_t first,
                     int64_t last, std::byte* packed);
// B[k, n] = source[k, n]: writes the k-blocks [first, last).
void pack_straight(const RowSource& source, DType value_type, const PackedFormat& format, int64_t first,
                   int64_t last, std::byte* packed);
// The number of blocks that the two functions above count.
inline int64_t blocks_of_n(const PackedFormat& f) {
  return f.padded_n() / f.n_block;
}
inline int64_t blocks_of_k(const PackedFormat& f) {
  return f.padded_k() / f.k_block;
}

// to[columns, rows] (rows `to_stride` apart, of `type`) = the transposed block of `source`.
void transpose_block(const RowSource& source, int64_t first_row, int64_t rows, int64_t first_column,
                     int64_t columns, DType type, std::byte* to, int64_t to_stride);

// to[rows, columns] = the rows of `source` from first_row on, rounded to value_type, stored as `type`.
void convert_rows(const RowSource& source, int64_t first_row, int64_t rows, DType value_type, DType type,
                  std::byte* to, int64_t to_stride);
// to[i] = from[i], or to[i] + from[i] in fp32 where `add`; rounded once to `type`.
void finish_row(const float* from, bool add, DType type, std::byte* to, int64_t count);

// A panel of a matrix in the widened format: its rows [first_row, first_row + rows) and columns
// [first_column,
// ...), as fp32 in the order of packed_format(f32, rows, columns, false). first_row is a multiple of 16,
// first_column one of 64, and rows ends at a multiple of 16 or at the matrix's end.
void widen_panel(const PackedFormat& format, const std::byte* packed, int64_t first_row, int64_t rows,
                 int64_t first_column, int64_t columns, float* panel);

// A weight W[n, k] packed for y = x W^T or dx = dy W. A large table packed backward is cut along n into
// pieces of kTablePiece rows, so that a product over one piece finds its block contiguous.
inline constexpr int64_t kTablePiece = 512, kTableRows = 8192;

struct PackedWeight {
  PackedWeight(DType type, const Shape& shape, Layout layout, Bf16Products products);
  int64_t bytes() const;
  int64_t pieces() const { return (contracted + piece - 1) / piece; }
  int64_t piece_rows(int64_t i) const { return i + 1 < pieces() ? piece : contracted - i * piece; }
  PackedFormat piece_format(int64_t i) const;
  int64_t piece_offset(int64_t i) const;

  // Stored as bf16 and multiplied as fp32, in the widened format.
  bool widened() const { return stored != product; }

  DType stored;   // type of the packed elements
  DType product;  // type that they are multiplied in
  bool backward;
  int64_t contracted;  // k forward, n backward
  int64_t columns;     // the product's n
  int64_t piece;       // contracted elements in one piece; all of them forward
};

}  // namespace toroid::cpu
