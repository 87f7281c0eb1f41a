// Products of deterministic mode. Right rather than fast: no tensor cores and no shared memory, so that what
// an element is does not depend on its neighbours.
#include <algorithm>

#include "core/device/cuda/launch.h"
#include "core/device/cuda/matrix_product.h"
#include "core/device/cuda/vectors.h"

namespace toroid::cuda {
namespace {

// A thread has a column and kTileRows rows, and the tree's unfinished sums of them in registers: levels for
// fewer than 2^kLevels pieces.
constexpr int kTileThreads = 128, kTileRows = 4, kLevels = 12;

template <class T, class Out>
struct TreeProductArgs {
  const T *a, *b;
  Out* out;
  int64_t rows, columns, depth, out_stride;
  int64_t a_row, a_step, b_column, b_step;  // elements from row to row, and along the sum
  int64_t pieces, block;                    // block 0: equal pieces
  int64_t column_tiles;
  bool accumulate;
};

template <class T, class Out, bool kVectors>
struct TreeProduct {
  struct Sums {
    float v[kTileRows];
  };
  // What one step, or one vector of them, adds.
  template <int kWidth>
  TOROID_DEVICE static void add_terms(const TreeProductArgs<T, Out>& args, const T* const (&a)[kTileRows],
                                      const T* b, int64_t i, Sums& sums) {
    const Floats<kWidth> of_b = load<kWidth>(b + i * args.b_step);
    Floats<kWidth> of_a[kTileRows];
    TOROID_UNROLL
    for (int r = 0; r < kTileRows; ++r) of_a[r] = load<kWidth>(a[r] + i * args.a_step);
    TOROID_UNROLL
    for (int j = 0; j < kWidth; ++j) {
      TOROID_UNROLL
      for (int r = 0; r < kTileRows; ++r) sums.v[r] = fma(of_a[r].v[j], of_b.v[j], sums.v[r]);
    }
  }
  TOROID_DEVICE static void add(const Sums& left, Sums& right) {
    TOROID_UNROLL
    for (int r = 0; r < kTileRows; ++r) right.v[r] = left.v[r] + right.v[r];
  }

  template <class Team>
  TOROID_DEVICE void operator()(Team& team, const TreeProductArgs<T, Out>& args) const {
    const int64_t row = team.index() / args.column_tiles * kTileRows,
                  column = team.index() % args.column_tiles * kTileThreads,
                  columns_left = args.columns - column, rows_left = args.rows - row;
    const int columns = columns_left < kTileThreads ? static_cast<int>(columns_left) : kTileThreads;
    each<1, 1>(team, columns, [&](const auto& at) {
      const T* const b = args.b + (column + at.i) * args.b_column;
      const T* a[kTileRows];
      TOROID_UNROLL
      for (int r = 0; r < kTileRows; ++r) {  // rows past the last are its copies, and not written
        a[r] = args.a + (row + (r < rows_left ? r : rows_left - 1)) * args.a_row;
      }
      Sums levels[kLevels] = {};
      for (int64_t piece = 0; piece < args.pieces; ++piece) {
        const int64_t begin = args.block > 0 ? piece * args.block : args.depth * piece / args.pieces;
        int64_t end = args.block > 0 ? begin + args.block : args.depth * (piece + 1) / args.pieces;
        end = end < args.depth ? end : args.depth;
        Sums sums = {};
        constexpr int kWidth = kVectors ? kVector<T> : 1;
        for (int64_t i = begin; i < end; i += kWidth) add_terms<kWidth>(args, a, b, i, sums);
        // As one is added to a binary number: a full level is added to its equal and carried on.
        bool carried = true;
        TOROID_UNROLL
        for (int level = 0; level < kLevels; ++level) {
          const bool full = (piece >> level & 1) != 0;
          if (carried && full) add(levels[level], sums);
          if (carried && !full) {
            levels[level] = sums;
            carried = false;
          }
        }
      }
      Sums total = {};
      bool begun = false;
      TOROID_UNROLL
      for (int level = 0; level < kLevels; ++level) {
        if ((args.pieces >> level & 1) == 0) continue;
        if (begun) {
          add(levels[level], total);
        } else {
          total = levels[level];
        }
        begun = true;
      }
      TOROID_UNROLL
      for (int r = 0; r < kTileRows; ++r) {
        if (r >= rows_left) continue;
        Out* const to = args.out + (row + r) * args.out_stride + column + at.i;
        const float before = args.accumulate ? load<1>(to).v[0] : 0.0f;
        store<1>(to, make<1>([&](int) { return args.accumulate ? before + total.v[r] : total.v[r]; }));
      }
    });
  }
};

template <class T, class Out>
void multiply_as(cudaStream_t stream, const MatrixProduct& p, Cut cut) {
  const int64_t pieces =
      cut.block > 0 ? (p.depth + cut.block - 1) / cut.block : std::max<int64_t>(cut.slices, 1);
  require(pieces < int64_t{1} << kLevels, "a sum of deterministic mode has fewer than 4096 pieces");
  const int64_t row_tiles = (p.rows + kTileRows - 1) / kTileRows,
                column_tiles = (p.columns + kTileThreads - 1) / kTileThreads;
  const TreeProductArgs<T, Out> args{.a = reinterpret_cast<const T*>(p.a.data),
                                     .b = reinterpret_cast<const T*>(p.b.data),
                                     .out = reinterpret_cast<Out*>(p.out),
                                     .rows = p.rows,
                                     .columns = p.columns,
                                     .depth = p.depth,
                                     .out_stride = p.out_stride,
                                     .a_row = p.a.turned ? 1 : p.a.stride,
                                     .a_step = p.a.turned ? p.a.stride : 1,
                                     .b_column = p.b.turned ? 1 : p.b.stride,
                                     .b_step = p.b.turned ? p.b.stride : 1,
                                     .pieces = pieces,
                                     .block = cut.block,
                                     .column_tiles = column_tiles,
                                     .accumulate = p.accumulate};
  constexpr int64_t kWidth = kVector<T>;
  // Vectors along the sum, where every piece of every row begins and ends with a whole one.
  const bool whole_pieces =
      cut.block > 0 ? cut.block % kWidth == 0 && p.depth % kWidth == 0 : p.depth % (pieces * kWidth) == 0;
  const bool vectors = !p.a.turned && !p.b.turned && whole_pieces && p.a.stride % kWidth == 0 &&
                       p.b.stride % kWidth == 0 && aligned({p.a.data, p.b.data});
  vectors ? launch<TreeProduct<T, Out, true>, kTileThreads>(stream, row_tiles * column_tiles, args)
          : launch<TreeProduct<T, Out, false>, kTileThreads>(stream, row_tiles * column_tiles, args);
}

}  // namespace

void multiply_in_tree(cudaStream_t stream, const MatrixProduct& product, Cut cut) {
  if (product.rows == 0 || product.columns == 0) return;
  if (product.type == DType::f32) {
    product.out_type == DType::f32 ? multiply_as<float, float>(stream, product, cut)
                                   : multiply_as<float, Bf16>(stream, product, cut);
  } else {
    product.out_type == DType::f32 ? multiply_as<Bf16, float>(stream, product, cut)
                                   : multiply_as<Bf16, Bf16>(stream, product, cut);
  }
}

}  // namespace toroid::cuda
