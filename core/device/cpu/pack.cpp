// Blocks pass through a buffer that stays in the first-level cache: rows are read once, rounded there, and
// leave in the product's order through transpositions of 128-bit pieces.
#include "core/device/cpu/pack.h"

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "core/device/cpu/matmul_kernels.h"
#include "core/device/cpu/parallel.h"
#include "core/op/matmul.h"
#include "hwy/cache_control.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/pack.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

template <class From, class To, bool kRound>
void convert_as(const From* from, To* to, int64_t count) {
  sweep(count, [&](int64_t i, auto span) {
    Floats v = load(from + i, span);
    if constexpr (kRound) v = rounded<Bf16>(v);
    store(v, to + i, span);
  });
}

// Types are passed as "is it bf16"; `round`: to bf16 values although stored as fp32.
void convert(const void* from, bool from_bf16, void* to, bool to_bf16, bool round, int64_t count) {
  if (from_bf16 && to_bf16) {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(Bf16));
  } else if (from_bf16) {
    convert_as<Bf16, float, false>(static_cast<const Bf16*>(from), static_cast<float*>(to), count);
  } else if (to_bf16) {
    convert_as<float, Bf16, false>(static_cast<const float*>(from), static_cast<Bf16*>(to), count);
  } else if (round) {
    convert_as<float, float, true>(static_cast<const float*>(from), static_cast<float*>(to), count);
  } else {
    std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

template <class T>
void finish_as(const float* from, bool add, T* to, int64_t count) {
  sweep(count, [&](int64_t i, auto span) {
    Floats v = load(from + i, span);
    if (add) v = hn::Add(v, load(to + i, span));
    store(v, to + i, span);
  });
}

// Rows of bf16, `from_stride` apart, as fp32; whole rows follow each other where the strides are `columns`.
void widen_rows(const Bf16* from, int64_t from_stride, float* to, int64_t to_stride, int64_t rows,
                int64_t columns) {
  if (from_stride == columns && to_stride == columns) columns *= rows, rows = 1;
  for (int64_t r = 0; r < rows; ++r)
    convert_as<Bf16, float, false>(from + r * from_stride, to + r * to_stride, columns);
}

void finish(const float* from, bool add, bool bf16, void* to, int64_t count) {
  if (bf16) {
    finish_as(from, add, static_cast<Bf16*>(to), count);
  } else {
    finish_as(from, add, static_cast<float*>(to), count);
  }
}

#if HWY_TARGET == HWY_SCALAR

void transpose_words(const uint32_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint32_t* to,
                     int64_t to_stride) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

void transpose_halves(const uint16_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint16_t* to,
                      int64_t to_stride) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

void interleave_halves(const uint16_t* even, const uint16_t* odd, uint16_t* to, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    to[2 * i] = even[i];
    to[2 * i + 1] = odd[i];
  }
}

#else

using Words4 = hn::Full128<uint32_t>;
using Halves8 = hn::Full128<uint16_t>;

// to[c * to_stride + r] = from[r * from_stride + c], 32-bit words; rows and columns are multiples of 4.
void transpose_words(const uint32_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint32_t* to,
                     int64_t to_stride) {
  const Words4 d;
  const hn::Full128<uint64_t> d2;
  for (int64_t c = 0; c < columns; c += 4) {
    for (int64_t r = 0; r < rows; r += 4) {
      const uint32_t* at = from + r * from_stride + c;
      const auto a0 = hn::LoadU(d, at), a1 = hn::LoadU(d, at + from_stride);
      const auto a2 = hn::LoadU(d, at + 2 * from_stride), a3 = hn::LoadU(d, at + 3 * from_stride);
      const auto b0 = hn::BitCast(d2, hn::InterleaveLower(d, a0, a1));
      const auto b1 = hn::BitCast(d2, hn::InterleaveUpper(d, a0, a1));
      const auto b2 = hn::BitCast(d2, hn::InterleaveLower(d, a2, a3));
      const auto b3 = hn::BitCast(d2, hn::InterleaveUpper(d, a2, a3));
      uint32_t* out = to + c * to_stride + r;
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d2, b0, b2)), d, out);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d2, b0, b2)), d, out + to_stride);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d2, b1, b3)), d, out + 2 * to_stride);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d2, b1, b3)), d, out + 3 * to_stride);
    }
  }
}

// The same for 16-bit elements; rows and columns are multiples of 8.
void transpose_halves(const uint16_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint16_t* to,
                      int64_t to_stride) {
  const Halves8 d;
  const Words4 d4;
  const hn::Full128<uint64_t> d2;
  for (int64_t c = 0; c < columns; c += 8) {
    for (int64_t r = 0; r < rows; r += 8) {
      const uint16_t* at = from + r * from_stride + c;
      const auto a0 = hn::LoadU(d, at), a1 = hn::LoadU(d, at + from_stride);
      const auto a2 = hn::LoadU(d, at + 2 * from_stride), a3 = hn::LoadU(d, at + 3 * from_stride);
      const auto a4 = hn::LoadU(d, at + 4 * from_stride), a5 = hn::LoadU(d, at + 5 * from_stride);
      const auto a6 = hn::LoadU(d, at + 6 * from_stride), a7 = hn::LoadU(d, at + 7 * from_stride);
      const auto low = [&](auto x, auto y) { return hn::BitCast(d4, hn::InterleaveLower(d, x, y)); };
      const auto high = [&](auto x, auto y) { return hn::BitCast(d4, hn::InterleaveUpper(d, x, y)); };
      const auto b0 = low(a0, a1), b1 = low(a2, a3), b2 = low(a4, a5), b3 = low(a6, a7);
      const auto b4 = high(a0, a1), b5 = high(a2, a3), b6 = high(a4, a5), b7 = high(a6, a7);
      const auto low2 = [&](auto x, auto y) { return hn::BitCast(d2, hn::InterleaveLower(d4, x, y)); };
      const auto high2 = [&](auto x, auto y) { return hn::BitCast(d2, hn::InterleaveUpper(d4, x, y)); };
      const auto c0 = low2(b0, b1), c1 = low2(b2, b3), c2 = high2(b0, b1), c3 = high2(b2, b3);
      const auto c4 = low2(b4, b5), c5 = low2(b6, b7), c6 = high2(b4, b5), c7 = high2(b6, b7);
      uint16_t* out = to + c * to_stride + r;
      const auto put = [&](int64_t i, auto x, auto y) {
        hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d2, x, y)), d, out + i * to_stride);
        hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d2, x, y)), d, out + (i + 1) * to_stride);
      };
      put(0, c0, c1);
      put(2, c2, c3);
      put(4, c4, c5);
      put(6, c6, c7);
    }
  }
}

// to[2 i] = even[i], to[2 i + 1] = odd[i]; count is a multiple of 8.
void interleave_halves(const uint16_t* even, const uint16_t* odd, uint16_t* to, int64_t count) {
  const Halves8 d;
  for (int64_t i = 0; i < count; i += 8) {
    const auto a = hn::LoadU(d, even + i), b = hn::LoadU(d, odd + i);
    hn::StoreU(hn::InterleaveLower(d, a, b), d, to + 2 * i);
    hn::StoreU(hn::InterleaveUpper(d, a, b), d, to + 2 * i + 8);
  }
}

#endif

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(convert);
HWY_EXPORT(finish);
HWY_EXPORT(widen_rows);
HWY_EXPORT(transpose_words);
HWY_EXPORT(transpose_halves);
HWY_EXPORT(interleave_halves);

constexpr int64_t kChunkBytes = 512;                 // of a row in the buffer
constexpr int64_t kBufferRows = 64;                  // the largest n_block, and more than the largest k_block
constexpr int64_t kBufferStride = kChunkBytes + 64;  // rows of a power of two would share cache sets

struct Buffer64 {
  alignas(64) std::byte data[kBufferRows * kBufferStride];
  std::byte* row(int64_t r) { return data + r * kBufferStride; }
};

// Where the next buffer begins: its rows are fetched ahead, each being too short a stretch for the hardware
// to see it coming.
struct Corner {
  int64_t row, column;
};

// Rows [first_row, first_row + rows) of columns [first, first + count) into the buffer; what lies beyond the
// source, up to `rows` and `padded` columns, is zero.
void fill(Buffer64& buffer, const RowSource& source, DType value_type, DType type, int64_t first_row,
          int64_t rows, int64_t first, int64_t count, int64_t padded, Corner next) {
  const bool round = value_type == DType::bf16 && type == DType::f32;
  const auto size = static_cast<size_t>(bytes_of(type));
  const int64_t present = std::clamp<int64_t>(source.columns() - first, 0, count);
  for (int64_t r = 0; r < rows; ++r) {
    std::byte* to = buffer.row(r);
    if (next.row + r < source.rows() && next.column < source.columns()) {
      const RowSource::Row soon = source.row(next.row + r, next.column);
      const int64_t bytes = std::min(count, source.columns() - next.column) * bytes_of(soon.type);
      for (int64_t at = 0; at < bytes; at += 64) hwy::Prefetch(soon.data + at);
    }
    const int64_t filled = first_row + r < source.rows() ? present : 0;
    if (filled > 0) {
      const RowSource::Row row = source.row(first_row + r, first);
      HWY_DYNAMIC_DISPATCH(convert)
      (row.data, row.type == DType::bf16, to, type == DType::bf16, round, filled);
    }
    if (filled < padded) {
      std::memset(to + static_cast<size_t>(filled) * size, 0, static_cast<size_t>(padded - filled) * size);
    }
  }
}

int64_t up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

void RowSource::add(const Tensor& t) {
  add(t.data(), t.type, t.row_stride, t.rows(), t.columns());
}

void RowSource::add(const std::byte* data, DType type, int64_t row_stride, int64_t rows, int64_t columns) {
  require(count_ < parts_.size(), "at most eight matrices are stacked");
  rows_ += rows;
  columns_ = columns;
  parts_[count_++] = {data, type, row_stride, rows_};
}

RowSource RowSource::slice(int64_t first, int64_t count) const {
  RowSource part = *this;
  part.first_ += first;
  part.rows_ = count;
  return part;
}

RowSource::Row RowSource::row(int64_t r, int64_t first_column) const {
  int64_t before = 0;
  r += first_;
  for (const Part& part : parts_) {
    if (r < part.end) {
      return {part.data + ((r - before) * part.row_stride + first_column) * bytes_of(part.type), part.type};
    }
    before = part.end;
  }
  return {nullptr, DType::f32};
}

void convert_rows(const RowSource& source, int64_t first_row, int64_t rows, DType value_type, DType type,
                  std::byte* to, int64_t to_stride) {
  const bool round = value_type == DType::bf16 && type == DType::f32;
  for (int64_t r = 0; r < rows; ++r) {
    const RowSource::Row row = source.row(first_row + r, 0);
    HWY_DYNAMIC_DISPATCH(convert)
    (row.data, row.type == DType::bf16, to + r * to_stride * bytes_of(type), type == DType::bf16, round,
     source.columns());
  }
}

void finish_row(const float* from, bool add, DType type, std::byte* to, int64_t count) {
  HWY_DYNAMIC_DISPATCH(finish)(from, add, type == DType::bf16, to, count);
}

// Rows [first, last) of the source, zeros where it has no more.
static void convert_padded(const RowSource& source, DType value_type, DType type, int64_t first, int64_t last,
                           std::byte* to, int64_t columns) {
  const int64_t present = std::clamp(source.rows(), first, last), row_bytes = columns * bytes_of(type);
  convert_rows(source, first, present - first, value_type, type, to + first * row_bytes, columns);
  if (present < last)
    std::memset(to + present * row_bytes, 0, static_cast<size_t>((last - present) * row_bytes));
}

void pack_transposed(const RowSource& source, DType value_type, const PackedFormat& format, int64_t first,
                     int64_t last, std::byte* packed) {
  if (!format.blocked) {  // the order of the source; n_block is 1
    convert_padded(source, value_type, format.type, first, last, packed, format.k);
    return;
  }
  Buffer64 buffer;
  const int64_t chunk = kChunkBytes / bytes_of(format.type);  // a multiple of every k_block
  const int64_t padded_k = format.padded_k();
  for (int64_t block = first; block < last; ++block) {
    auto* to = reinterpret_cast<uint32_t*>(packed + format.column_bytes(block * format.n_block));
    for (int64_t k = 0; k < padded_k; k += chunk) {
      const int64_t count = std::min(chunk, padded_k - k);
      fill(buffer, source, value_type, format.type, block * format.n_block, format.n_block, k, count, count,
           k + chunk < padded_k ? Corner{block * format.n_block, k + chunk}
                                : Corner{(block + 1) * format.n_block, 0});
      if (format.group * bytes_of(format.type) == 2) {
        HWY_DYNAMIC_DISPATCH(transpose_halves)
        (reinterpret_cast<const uint16_t*>(buffer.data), kBufferStride / 2, format.n_block, count,
         reinterpret_cast<uint16_t*>(to) + k * format.n_block, format.n_block);
        continue;
      }
      HWY_DYNAMIC_DISPATCH(transpose_words)
      (reinterpret_cast<const uint32_t*>(buffer.data), kBufferStride / 4, format.n_block,
       count / format.group, to + k / format.group * format.n_block, format.n_block);
    }
  }
}

void pack_straight(const RowSource& source, DType value_type, const PackedFormat& format, int64_t first,
                   int64_t last, std::byte* packed) {
  if (!format.blocked) {
    convert_padded(source, value_type, format.type, first, last, packed, format.n);
    return;
  }
  Buffer64 buffer;
  const int64_t size = bytes_of(format.type);
  const int64_t chunk = kChunkBytes / size / format.n_block * format.n_block;
  for (int64_t block = first; block < last; ++block) {
    for (int64_t n = 0; n < format.padded_n(); n += chunk) {
      const int64_t count = std::min(chunk, format.padded_n() - n);
      fill(buffer, source, value_type, format.type, block * format.k_block, format.k_block, n, count, count,
           n + chunk < format.padded_n() ? Corner{block * format.k_block, n + chunk}
                                         : Corner{(block + 1) * format.k_block, 0});
      for (int64_t j = 0; j < count; j += format.n_block) {
        std::byte* to = packed + format.column_bytes(n + j) + block * format.k_block * format.n_block * size;
        for (int64_t k = 0; k < format.k_block; k += format.group) {
          std::byte* line = to + k * format.n_block * size;
          if (format.group == 2) {
            HWY_DYNAMIC_DISPATCH(interleave_halves)
            (reinterpret_cast<const uint16_t*>(buffer.row(k) + j * size),
             reinterpret_cast<const uint16_t*>(buffer.row(k + 1) + j * size),
             reinterpret_cast<uint16_t*>(line), format.n_block);
          } else {
            std::memcpy(line, buffer.row(k) + j * size, static_cast<size_t>(format.n_block * size));
          }
        }
      }
    }
  }
}

void transpose_block(const RowSource& source, int64_t first_row, int64_t rows, int64_t first_column,
                     int64_t columns, DType type, std::byte* to, int64_t to_stride) {
  Buffer64 buffer;
  const int64_t size = bytes_of(type);
  const int64_t chunk = kChunkBytes / size, unit = 16 / size;
  alignas(64) std::byte square[kBufferRows * 16];
  for (int64_t r = 0; r < rows; r += kBufferRows) {
    const int64_t height = std::min(kBufferRows, rows - r), even_height = height / unit * unit;
    for (int64_t c = 0; c < columns; c += chunk) {
      const int64_t width = std::min(chunk, columns - c), padded = up(width, unit),
                    even_width = width / unit * unit;
      fill(buffer, source, type, type, first_row + r, up(height, unit), first_column + c, width, padded,
           c + chunk < columns ? Corner{first_row + r, first_column + c + chunk}
                               : Corner{first_row + r + kBufferRows, first_column});
      // Whole squares go straight to their place; those on the edge through a small square of their own.
      const auto turn = [&](int64_t row, int64_t height_of, int64_t column, int64_t width_of, std::byte* out,
                            int64_t stride) {
        if (height_of == 0 || width_of == 0) return;
        const std::byte* from = buffer.row(row) + column * size;
        if (type == DType::bf16) {
          HWY_DYNAMIC_DISPATCH(transpose_halves)
          (reinterpret_cast<const uint16_t*>(from), kBufferStride / 2, height_of, width_of,
           reinterpret_cast<uint16_t*>(out), stride);
        } else {
          HWY_DYNAMIC_DISPATCH(transpose_words)
          (reinterpret_cast<const uint32_t*>(from), kBufferStride / 4, height_of, width_of,
           reinterpret_cast<uint32_t*>(out), stride);
        }
      };
      std::byte* corner = to + (c * to_stride + r) * size;
      turn(0, even_height, 0, even_width, corner, to_stride);
      const auto edge = [&](int64_t row, int64_t column) {
        turn(row, unit, column, unit, square, unit);
        for (int64_t j = 0; j < std::min(unit, width - column); ++j) {
          std::memcpy(corner + ((column + j) * to_stride + row) * size, square + j * unit * size,
                      static_cast<size_t>(std::min(unit, height - row) * size));
        }
      };
      if (even_width < width) {
        for (int64_t row = 0; row < even_height; row += unit) edge(row, even_width);
      }
      if (even_height < height) {
        for (int64_t column = 0; column < width; column += unit) edge(even_height, column);
      }
    }
  }
}

void widen_panel(const PackedFormat& format, const std::byte* packed, int64_t first_row, int64_t rows,
                 int64_t first_column, int64_t columns, float* panel) {
  const PackedFormat wide = packed_format(DType::f32, rows, columns, false);
  const auto* const from = reinterpret_cast<const uint16_t*>(packed);
  // Blocks of the panel are no wider than the stored ones, whose padding then pads them.
  const int64_t step = wide.blocked ? wide.n_block : format.n_block;
  for (int64_t c = 0; c < columns; c += step) {
    const int64_t width = wide.blocked ? step : std::min(step, columns - c);
    HWY_DYNAMIC_DISPATCH(widen_rows)
    (from + format.index(first_row, first_column + c), format.n_block, panel + wide.index(0, c),
     wide.blocked ? step : columns, wide.padded_k(), width);
  }
}

PackedWeight::PackedWeight(DType type, const Shape& shape, Layout layout, Bf16Products products)
    : stored(type == DType::bf16 ? DType::bf16 : DType::f32),
      product(product_type(type, products)),
      backward(layout == Layout::packed_backward),
      contracted(backward ? shape[0] : shape[1]),
      columns(backward ? shape[1] : shape[0]),
      piece(backward && contracted > kTableRows ? kTablePiece : contracted) {}

PackedFormat PackedWeight::piece_format(int64_t i) const {
  return widened() ? widened_format(piece_rows(i), columns)
                   : packed_format(product, piece_rows(i), columns, !backward);
}

int64_t PackedWeight::piece_offset(int64_t i) const {
  return i == 0 ? 0 : i * piece_format(0).bytes();
}

int64_t PackedWeight::bytes() const {
  const int64_t last = pieces() - 1;
  return piece_offset(last) + piece_format(last).bytes();
}

namespace {

template <Bf16Products kProducts>
void run_pack(const Call& call, const LaunchContext& context) {
  const Tensor& packed = call.operands.back().tensor;
  if (packed.type == DType::f64) {
    call.kind->reference(call);
    return;
  }
  RowSource rows;
  for (size_t i = 0; i + 1 < call.operands.size(); ++i) rows.add(call[i]);
  std::byte* const to = packed.data();
  const int64_t bytes = packed.elements() * 6;
  if (packed.layout == Layout::plain) {
    parallel_ranges(packed.rows(), 1, bytes, context.threads, [&](Range range) {
      convert_rows(rows, range.first, range.size(), packed.type, packed.type,
                   to + range.first * packed.row_stride * bytes_of(packed.type), packed.row_stride);
    });
    return;
  }
  const PackedWeight weight(packed.type, packed.shape, packed.layout, kProducts);
  if (packed.layout == Layout::packed_forward) {
    const PackedFormat format = weight.piece_format(0);
    parallel_ranges(blocks_of_n(format), 1, bytes, context.threads, [&](Range range) {
      pack_transposed(rows, packed.type, format, range.first, range.last, to);
    });
    return;
  }
  // One piece: over its blocks. Many: over the pieces.
  if (weight.pieces() == 1) {
    const PackedFormat format = weight.piece_format(0);
    parallel_ranges(blocks_of_k(format), 1, bytes, context.threads, [&](Range range) {
      pack_straight(rows, packed.type, format, range.first, range.last, to);
    });
    return;
  }
  parallel_ranges(weight.pieces(), 1, bytes, context.threads, [&](Range range) {
    for (int64_t i = range.first; i < range.last; ++i) {
      const PackedFormat format = weight.piece_format(i);
      const RowSource part = rows.slice(i * weight.piece, weight.piece_rows(i));
      pack_straight(part, packed.type, format, 0, blocks_of_k(format), to + weight.piece_offset(i));
    }
  });
}

}  // namespace

void add_pack_kernel(KernelRegistry& registry, Bf16Products products) {
  const bool native = products == Bf16Products::native;
  registry.add(op::pack_kind,
               {native ? run_pack<Bf16Products::native> : run_pack<Bf16Products::widened>, nullptr});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
