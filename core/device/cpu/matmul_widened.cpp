// m tokens, n outputs, k inputs. A block of x's rows is widened once. Then each thread takes panels of the
// weight's columns: it widens a panel into its cache, multiplies the block's rows with it by oneDNN's fp32
// product, and rounds the sums to y. A weight in pieces along k is gone through piece by piece. A few rows,
// as in generation, would not repay a panel: they are multiplied with the weight as it comes from memory.
#include "core/device/cpu/matmul_widened.h"

#include <algorithm>

#include "core/device/cpu/onednn.h"
#include "core/device/cpu/pack.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/scratch.h"
#include "core/op/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/matmul_widened.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

// c[64] = one row of k elements times a block of columns, added to c where `add`.
void multiply_block(const float* a, const Bf16* block, int64_t k, bool add, float* c) {
  constexpr int64_t kColumns = 64, kLanes = hn::MaxLanes(FloatTag()), kVectors = kColumns / kLanes;
  Floats sums[kVectors];
  for (int64_t v = 0; v < kVectors; ++v) sums[v] = add ? load(c + v * kLanes) : zero();
  for (int64_t i = 0; i < k; ++i) {
    const Floats factor = splat(a[i]);
    for (int64_t v = 0; v < kVectors; ++v)
      sums[v] = hn::MulAdd(factor, load(block + i * kColumns + v * kLanes), sums[v]);
  }
  for (int64_t v = 0; v < kVectors; ++v) store(sums[v], c + v * kLanes);
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(multiply_block);

constexpr int64_t kBlockRows = 1024;        // of x: a panel's widening is 1 / 1024 of its multiplications
constexpr int64_t kPanelBytes = 512 << 10;  // of a panel, which is one block of columns wide at least
constexpr int64_t kColumns = 64, kMostColumns = 512;  // a block of columns, and of a panel
constexpr int64_t kFewRows = 4;                       // that are multiplied without panels
constexpr int64_t kLeastRows = 128;                   // of a part
constexpr int64_t kApart = 4096 + 256;                // between two threads' memory

int64_t up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

class WidenedProduct {
 public:
  WidenedProduct(const Call& call, int threads)
      : x_(call[0]),
        w_(call[1]),
        y_(call[2]),
        accumulate_(call.get<op::MatmulSpec>().accumulate),
        weight_(w_.type, w_.shape, w_.layout, Bf16Products::widened),
        threads_(threads),
        block_(std::min(kBlockRows, x_.rows())) {
    const int64_t n = weight_.columns;
    const int64_t fitting = kPanelBytes / (4 * weight_.piece) / kColumns * kColumns;
    const int64_t share = up((n + threads - 1) / threads, kColumns);
    width_ = std::min(share, std::clamp(fitting, kColumns, kMostColumns));
    panels_ = (n + width_ - 1) / width_;
    // Panels that the threads do not share evenly are cut into parts of rows, if that gains anything.
    const auto rounds = [&](int parts) {
      return static_cast<double>(up(panels_ * parts, threads) / threads) / parts;
    };
    for (int parts = 2; parts <= 4 && block_ / parts >= kLeastRows; ++parts) {
      if (rounds(parts) < 0.95 * rounds(parts_)) parts_ = parts;
    }
  }

  int64_t lay_out(std::byte* workspace) {
    Scratch scratch(workspace);
    if (few()) {
      a_ = scratch.take<float>(x_.rows() * x_.columns());
      c_ = scratch.take<float>(threads_ * kColumns);
      return scratch.used();
    }
    a_ = in_place() ? nullptr : scratch.take<float>(block_ * weight_.piece);
    c_ = one_piece() ? nullptr : scratch.take<float>(block_ * panels_ * width_);
    note_products();
    own_bytes_ = Own(*this, nullptr).bytes + kApart;
    own_ = scratch.take(own_bytes_ * threads_);
    return scratch.used();
  }

  void run(std::byte* workspace) {
    lay_out(workspace);
    if (few()) return run_few();
    for (int64_t first = 0; first < x_.rows(); first += block_) {
      const int64_t rows = std::min(block_, x_.rows() - first);
      for (int64_t piece = 0; piece < weight_.pieces(); ++piece) {
        const float* const a = widened_rows(first, rows, piece);
        const int tasks = static_cast<int>(panels_) * parts_, workers = std::min(threads_, tasks);
        if (workers == 1) {
          const ThreadScope one(1);
          multiply({0, tasks}, 0, a, first, rows, piece);
        } else {
          parallel(workers, [&](int index) {
            multiply(part_of(tasks, workers, index), index, a, first, rows, piece);
          });
        }
      }
    }
  }

 private:
  bool few() const { return x_.rows() <= kFewRows; }

  void run_few() const {
    const int64_t rows = x_.rows(), blocks = (weight_.columns + kColumns - 1) / kColumns;
    convert_rows(RowSource(x_), 0, rows, DType::f32, DType::f32, reinterpret_cast<std::byte*>(a_),
                 x_.columns());
    const int workers = static_cast<int>(std::min<int64_t>(threads_, blocks));
    parallel(workers, [&](int index) {
      const Range range = part_of(blocks, workers, index);
      for (int64_t block = range.first; block < range.last; ++block)
        multiply_few(block, c_ + index * kColumns);
    });
  }

  void multiply_few(int64_t block, float* c) const {
    const int64_t column = block * kColumns;
    for (int64_t r = 0; r < x_.rows(); ++r) {
      for (int64_t piece = 0; piece < weight_.pieces(); ++piece) {
        const auto* const from = reinterpret_cast<const uint16_t*>(w_.data() + weight_.piece_offset(piece));
        HWY_DYNAMIC_DISPATCH(multiply_block)
        (a_ + r * x_.columns() + piece * weight_.piece, from + weight_.piece_format(piece).index(0, column),
         weight_.piece_rows(piece), piece > 0, c);
      }
      finish(c, r, 1, column, std::min(kColumns, weight_.columns - column));
    }
  }

  // One thread's memory.
  struct Own {
    Own(const WidenedProduct& p, std::byte* base) {
      Scratch scratch(base);
      panel = scratch.take<float>(p.panel_bytes_ / 4);
      c = p.one_piece() ? scratch.take<float>(p.part_rows(p.block_, 0) * p.width_) : nullptr;
      product = scratch.take(p.scratch_bytes_);
      bytes = scratch.used();
    }
    float *panel, *c;
    std::byte* product;
    int64_t bytes;
  };

  bool one_piece() const { return weight_.pieces() == 1; }
  bool in_place() const { return x_.type == DType::f32 && x_.dense() && one_piece(); }
  int64_t columns_of(int64_t panel) const { return std::min(width_, weight_.columns - panel * width_); }
  Range part_of_rows(int64_t rows, int part) const { return part_of(rows, parts_, part, 16); }
  int64_t part_rows(int64_t rows, int part) const { return part_of_rows(rows, part).size(); }

  Product::Shape shape(int64_t rows, int64_t columns, int64_t piece) const {
    return {.m = rows,
            .n = columns,
            .k = weight_.piece_rows(piece),
            .type = DType::f32,
            .out = DType::f32,
            .accumulate = piece > 0};
  }

  void note_products() {
    scratch_bytes_ = panel_bytes_ = 0;
    for (const int64_t piece :
         {int64_t{0}, std::min<int64_t>(1, weight_.pieces() - 1), weight_.pieces() - 1}) {
      for (const int64_t columns : {columns_of(0), columns_of(panels_ - 1)}) {
        const int64_t k = weight_.piece_rows(piece);
        panel_bytes_ = std::max(panel_bytes_, packed_format(DType::f32, k, columns, false).bytes());
        for (const int64_t rows : {block_, x_.rows() % block_}) {
          for (int part = 0; part < parts_; ++part) {
            const int64_t some = part_rows(rows, part);
            if (some == 0) continue;
            scratch_bytes_ =
                std::max(scratch_bytes_, Product::get(shape(some, columns, piece))->scratch_bytes());
          }
        }
      }
    }
  }

  // Rows of x and the columns that meet a piece of the weight.
  const float* widened_rows(int64_t first, int64_t rows, int64_t piece) const {
    const int64_t k = weight_.piece_rows(piece), size = bytes_of(x_.type);
    const std::byte* const from = x_.data() + (first * x_.row_stride + piece * weight_.piece) * size;
    if (in_place()) return reinterpret_cast<const float*>(from);
    RowSource source;
    source.add(from, x_.type, x_.row_stride, rows, k);
    parallel_ranges(rows, 1, rows * k * (size + 4), threads_, [&](Range range) {
      convert_rows(source, range.first, range.size(), DType::f32, DType::f32,
                   reinterpret_cast<std::byte*>(a_ + range.first * k), k);
    });
    return a_;
  }

  // Some tasks, each a part of the block's rows and a panel.
  void multiply(Range tasks, int index, const float* a, int64_t first, int64_t rows, int64_t piece) const {
    const Own own(*this, own_ + index * own_bytes_);
    const PackedFormat format = weight_.piece_format(piece);
    const int64_t k = weight_.piece_rows(piece);
    ProductRuns runs;
    int64_t widened = -1;
    for (int64_t task = tasks.first; task < tasks.last; ++task) {
      const int64_t panel = task / parts_, columns = columns_of(panel);
      const Range part = part_of_rows(rows, static_cast<int>(task % parts_));
      if (part.size() == 0) continue;
      if (panel != widened) {
        widen_panel(format, w_.data() + weight_.piece_offset(piece), 0, k, panel * width_, columns,
                    own.panel);
        widened = panel;
      }
      float* const c = one_piece() ? own.c : c_ + (panel * block_ + part.first) * width_;
      runs(shape(part.size(), columns, piece))(a + part.first * k, own.panel, c, own.product);
      if (piece + 1 == weight_.pieces()) finish(c, first + part.first, part.size(), panel * width_, columns);
    }
  }

  void finish(const float* c, int64_t row, int64_t rows, int64_t column, int64_t columns) const {
    for (int64_t r = 0; r < rows; ++r) {
      finish_row(c + r * columns, accumulate_, y_.type,
                 y_.data() + ((row + r) * y_.row_stride + column) * bytes_of(y_.type), columns);
    }
  }

  const Tensor &x_, &w_, &y_;
  bool accumulate_;
  PackedWeight weight_;
  int threads_, parts_ = 1;  // parts: of a block's rows
  int64_t block_, width_ = 0, panels_ = 0;
  int64_t scratch_bytes_ = 0, panel_bytes_ = 0, own_bytes_ = 0;
  float *a_ = nullptr, *c_ = nullptr;
  std::byte* own_ = nullptr;
};

}  // namespace

void run_widened(const Call& call, std::byte* workspace, int threads) {
  WidenedProduct(call, threads).run(workspace);
}

int64_t widened_workspace(const Call& call, int threads) {
  return WidenedProduct(call, threads).lay_out(nullptr);
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
