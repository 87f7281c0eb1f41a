#include "core/device/cpu/matmul_deterministic.h"

#include "core/device/cpu/parallel.h"
#include "core/device/cpu/scratch.h"
#include "core/op/matmul.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/matmul_deterministic.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

// A tile in registers: up to 4 rows by kWide vectors. How it is cut changes no bit.
constexpr int kWide = HWY_TARGET <= HWY_AVX3 ? 4 : 2;

template <class A, int kRows>
HWY_INLINE void multiply_tile(const A* a, int64_t row_step, int64_t k_step, const float* b, int64_t k,
                              bool add, float* c, int64_t c_stride) {
  const int64_t step = lanes();
  Floats sums[kRows][kWide];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kWide; ++v) sums[r][v] = add ? load(c + r * c_stride + v * step) : zero();
  }
  for (int64_t i = 0; i < k; ++i) {
    Floats row[kWide];
    for (int v = 0; v < kWide; ++v) row[v] = load(b + i * kPanelColumns + v * step);
    for (int r = 0; r < kRows; ++r) {
      const A element = a[r * row_step + i * k_step];
      float value;
      if constexpr (sizeof(A) == 2) {
        value = from_bf16(element);
      } else {
        value = element;
      }
      const Floats factor = splat(value);
      for (int v = 0; v < kWide; ++v) sums[r][v] = hn::MulAdd(factor, row[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kWide; ++v) store(sums[r][v], c + r * c_stride + v * step);
  }
}

template <class A>
void multiply_as(const Factor& a, const float* panel, int64_t rows, int64_t k, bool add, float* c,
                 int64_t c_stride) {
  const auto* from = reinterpret_cast<const A*>(a.data);
  for (int64_t column = 0; column < kPanelColumns; column += kWide * lanes()) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      multiply_tile<A, 4>(from + r * a.row_step, a.row_step, a.k_step, panel + column, k, add,
                          c + r * c_stride + column, c_stride);
    }
    for (; r < rows; ++r) {
      multiply_tile<A, 1>(from + r * a.row_step, a.row_step, a.k_step, panel + column, k, add,
                          c + r * c_stride + column, c_stride);
    }
  }
}

void multiply_panel_for_target(const Factor& a, const float* panel, int64_t rows, int64_t k, bool add,
                               float* c, int64_t c_stride) {
  if (a.bf16) {
    multiply_as<Bf16>(a, panel, rows, k, add, c, c_stride);
  } else {
    multiply_as<float>(a, panel, rows, k, add, c, c_stride);
  }
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(multiply_panel_for_target);

constexpr int64_t kTileRows = 32;

float element_of(const std::byte* data, bool bf16, int64_t index) {
  return bf16 ? from_bf16(reinterpret_cast<const uint16_t*>(data)[index])
              : reinterpret_cast<const float*>(data)[index];
}

Factor factor_of(const Tensor& t) {
  return {t.data(), t.type == DType::bf16, t.row_stride, 1};
}

// A task's memory: one panel and a tree of tiles.
struct Own {
  Own(Scratch& scratch, int64_t k, int64_t sums)
      : panel(scratch.take<float>(k * kPanelColumns)),
        levels(scratch.take<float>(TreeSum::levels_for(sums) * kTileRows * kPanelColumns)) {}
  float *panel, *levels;
};

// out[rows, width] (+)= the tree's sum, rounded to out's type.
void write_tile(const float* tile, const Tensor& out, int64_t row, int64_t rows, int64_t column,
                bool accumulate) {
  const int64_t width = std::min(kPanelColumns, out.columns() - column);
  for (int64_t r = 0; r < rows; ++r) {
    finish_row(tile + r * kPanelColumns, accumulate, out.type,
               out.data() + ((row + r) * out.row_stride + column) * bytes_of(out.type), width);
  }
}

// matmul and matmul_dx: A by a packed weight, the contraction cut into slices.
void weight_column(const Call& call, const Own& own, int64_t column, Bf16Products products) {
  const Tensor &a = call[0], &w = call[1], &out = call[2];
  const PackedWeight weight(w.type, w.shape, w.layout, products);
  const int64_t k = a.columns(), slices = std::max<int64_t>(call.tiles.slices, 1);
  unpack_panel(weight, w.data(), 0, k, column, own.panel);
  const Factor factor = factor_of(a);
  for (int64_t row = 0; row < a.rows(); row += kTileRows) {
    const int64_t rows = std::min(kTileRows, a.rows() - row);
    TreeSum sum(own.levels, kTileRows * kPanelColumns);
    for (int64_t i = 0; i < slices; ++i) {
      const int64_t begin = slice_begin(k, slices, i), end = slice_begin(k, slices, i + 1);
      multiply_panel(factor.at(row, begin), own.panel + begin * kPanelColumns, rows, end - begin, false,
                     sum.next(), kPanelColumns);
      sum.push();
    }
    write_tile(sum.total(), out, row, rows, column, call.get<op::MatmulSpec>().accumulate);
  }
}

// matmul_dw: dy^T x, cut into blocks of tokens.
void gradient_column(const Call& call, const Own& own, int64_t column) {
  const Tensor &dy = call[0], &x = call[1], &dw = call[2];
  const int64_t m = dy.rows(), block = std::max<int64_t>(call.tiles.token_block, 1);
  fill_panel(factor_of(x), x.columns(), 0, m, column, own.panel);
  Factor factor = factor_of(dy);
  std::swap(factor.row_step, factor.k_step);
  for (int64_t row = 0; row < dw.rows(); row += kTileRows) {
    const int64_t rows = std::min(kTileRows, dw.rows() - row);
    TreeSum sum(own.levels, kTileRows * kPanelColumns);
    for (int64_t token = 0; token < m; token += block) {
      multiply_panel(factor.at(row, token), own.panel + token * kPanelColumns, rows,
                     std::min(block, m - token), false, sum.next(), kPanelColumns);
      sum.push();
    }
    write_tile(sum.total(), dw, row, rows, column, call.get<op::MatmulSpec>().accumulate);
  }
}

struct Plan {
  explicit Plan(const Call& call) {
    const bool gradient = call.kind == &op::matmul_dw_kind;
    k = gradient ? call[0].rows() : call[0].columns();
    sums = gradient ? (k + call.tiles.token_block - 1) / std::max<int64_t>(call.tiles.token_block, 1)
                    : std::max<int64_t>(call.tiles.slices, 1);
    panels = (call[2].columns() + kPanelColumns - 1) / kPanelColumns;
    Scratch scratch;
    const Own own(scratch, k, sums);
    own_bytes = (scratch.used() + 4095) / 4096 * 4096 + 256;
  }
  int64_t k, sums, panels, own_bytes;
};

}  // namespace

void TreeSum::push() {
  count_[top_++] = 1;
  while (top_ > 1 && count_[top_ - 1] == count_[top_ - 2]) {
    finish_row(levels_ + (top_ - 1) * elements_, true, DType::f32,
               reinterpret_cast<std::byte*>(levels_ + (top_ - 2) * elements_), elements_);
    count_[top_ - 2] *= 2;
    --top_;
  }
}

const float* TreeSum::total() {
  while (top_ > 1) {
    finish_row(levels_ + (top_ - 1) * elements_, true, DType::f32,
               reinterpret_cast<std::byte*>(levels_ + (top_ - 2) * elements_), elements_);
    --top_;
  }
  return levels_;
}

void multiply_panel(const Factor& a, const float* panel, int64_t rows, int64_t k, bool add, float* c,
                    int64_t c_stride) {
  HWY_DYNAMIC_DISPATCH(multiply_panel_for_target)(a, panel, rows, k, add, c, c_stride);
}

void unpack_panel(const PackedWeight& weight, const std::byte* packed, int64_t k, int64_t count,
                  int64_t column, float* panel) {
  const int64_t width = std::min(kPanelColumns, weight.columns - column);
  const bool bf16 = weight.piece_format(0).type == DType::bf16;
  for (int64_t first = k; first < k + count;) {
    const int64_t piece = first / weight.piece, last = std::min(k + count, (piece + 1) * weight.piece);
    const PackedFormat format = weight.piece_format(piece);
    const std::byte* const from = packed + weight.piece_offset(piece);
    // Neighbours in a row of B lie `step` apart, as far as one block goes.
    const int64_t block = format.blocked ? format.n_block : weight.columns;
    const int64_t step = format.blocked ? format.group : format.transposed ? format.k : 1;
    for (int64_t row = first; row < last; ++row) {
      float* const to = panel + (row - k) * kPanelColumns;
      for (int64_t j = 0; j < width;) {
        const int64_t end = std::min(width, j + block - (column + j) % block);
        const int64_t at = format.index(row - piece * weight.piece, column + j);
        for (int64_t i = j; i < end; ++i) to[i] = element_of(from, bf16, at + (i - j) * step);
        j = end;
      }
      std::fill(to + width, to + kPanelColumns, 0.0f);
    }
    first = last;
  }
}

void fill_panel(const Factor& b, int64_t columns, int64_t k, int64_t count, int64_t column, float* panel) {
  const int64_t width = std::min(kPanelColumns, columns - column);
  for (int64_t i = 0; i < count; ++i) {
    float* const to = panel + i * kPanelColumns;
    const Factor row = b.at(k + i, column);
    for (int64_t j = 0; j < width; ++j) to[j] = element_of(row.data, row.bf16, j);
    std::fill(to + width, to + kPanelColumns, 0.0f);
  }
}

void run_deterministic(const Call& call, std::byte* workspace, int threads, Bf16Products products) {
  const Plan plan(call);
  const int workers = static_cast<int>(std::min<int64_t>(threads, plan.panels));
  parallel(workers, [&](int index) {
    Scratch scratch(workspace + index * plan.own_bytes);
    const Own own(scratch, plan.k, plan.sums);
    const Range range = part_of(plan.panels, workers, index);
    for (int64_t panel = range.first; panel < range.last; ++panel) {
      if (call.kind == &op::matmul_dw_kind) {
        gradient_column(call, own, panel * kPanelColumns);
      } else {
        weight_column(call, own, panel * kPanelColumns, products);
      }
    }
  });
}

int64_t deterministic_workspace(const Call& call, int threads) {
  return Plan(call).own_bytes * threads;
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
