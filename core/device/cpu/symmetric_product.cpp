// Panels of columns, each from its diagonal downwards; what lies above is their mirror image. n rows and
// columns of the result, k contracted. Which thread takes which panel changes no bit.
#include "core/op/symmetric_product.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/device/cpu/matmul_deterministic.h"
#include "core/device/cpu/matmul_kernels.h"
#include "core/device/cpu/onednn.h"
#include "core/device/cpu/pack.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/scratch.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/device/cpu/symmetric_product.cpp"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
// After foreach_target.h, which includes this file once for each target.
#include "core/device/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace toroid::cpu::HWY_NAMESPACE {

template <class C>
void blend(float* sums, float alpha, const C* c, float beta, int64_t count) {
  const Floats scale = splat(alpha), share = splat(beta);
  sweep(count, [=](int64_t i, auto span) HWY_ATTR {
    store(hn::MulAdd(scale, load(sums + i, span), hn::Mul(share, load(c + i, span))), sums + i, span);
  });
}

// sums = alpha sums + beta c
void blend_row(float* sums, float alpha, const std::byte* c, bool c_bf16, float beta, int64_t count) {
  c_bf16 ? blend(sums, alpha, reinterpret_cast<const Bf16*>(c), beta, count)
         : blend(sums, alpha, reinterpret_cast<const float*>(c), beta, count);
}

}  // namespace toroid::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace toroid::cpu {
namespace {

HWY_EXPORT(blend_row);

constexpr int64_t kRows = 768;  // of a panel, multiplied at a time
constexpr int64_t kApart = 4096;

struct SymmetricProduct {
  SymmetricProduct(const Call& call, Bf16Products products)
      : a(call[0]),
        b(call[1]),
        c(call[2]),
        out(call[3]),
        spec(call.get<op::SymmetricProductSpec>()),
        n(out.rows()),
        k(spec.transposed ? a.rows() : a.columns()),
        panels((n + kPanelColumns - 1) / kPanelColumns),
        deterministic(call.tiles.deterministic),
        type(deterministic ? DType::f32 : product_type(a.type, products)) {
    squared = a.data() == b.data();
    in_place = !spec.transposed && a.type == type;
  }

  PackedFormat format(int64_t columns) const { return packed_format(type, k, columns, true); }
  Product::Shape product(int64_t rows, int64_t columns) const {
    return {.m = rows,
            .n = columns,
            .k = k,
            .type = type,
            .out = DType::f32,
            .transposed = true,
            .accumulate = false,
            .threads = 1};
  }
  int64_t width(int64_t panel) const { return std::min(kPanelColumns, n - panel * kPanelColumns); }

  struct Parts {
    std::byte *a = nullptr, *b = nullptr;  // [n, k] of `type`
    std::byte* own = nullptr;
    int64_t own_bytes = 0;
  };
  struct Own {
    std::byte* panel = nullptr;  // of b, k by kPanelColumns
    float* sums = nullptr;       // [kRows, kPanelColumns]
    std::byte* scratch = nullptr;
  };
  Own own(Scratch& scratch) const {
    Own own;
    own.panel = scratch.take(deterministic ? k * kPanelColumns * bytes_of(type)
                                           : std::max(format(std::min(n, kPanelColumns)).bytes(),
                                                      format(width(panels - 1)).bytes()));
    own.sums = scratch.take<float>(kRows * kPanelColumns);
    int64_t bytes = 0;
    for (int64_t panel = 0; panel < panels && !deterministic; ++panel) {
      each_block(panel, [&](int64_t, int64_t rows) {
        bytes = std::max(bytes, Product::get(product(rows, width(panel)))->scratch_bytes());
      });
    }
    own.scratch = scratch.take(bytes);
    return own;
  }
  Parts lay_out(Scratch& scratch, int threads) const {
    Parts parts;
    if (!in_place) parts.a = scratch.take(n * k * bytes_of(type));
    if (!in_place && !squared) parts.b = scratch.take(n * k * bytes_of(type));
    Scratch each;
    own(each);
    parts.own_bytes = (each.used() + kApart - 1) / kApart * kApart;
    parts.own = scratch.take(parts.own_bytes * threads);
    return parts;
  }

  // body(first row, rows) for the blocks of a panel.
  template <class Body>
  void each_block(int64_t panel, const Body& body) const {
    for (int64_t row = panel * kPanelColumns; row < n; row += kRows) body(row, std::min(kRows, n - row));
  }

  void run(std::byte* workspace, int threads) const {
    Scratch scratch(workspace);
    const Parts parts = lay_out(scratch, threads);
    const std::byte *rows_a = a.data(), *rows_b = b.data();
    if (!in_place) {
      make_rows(a, parts.a, threads);
      if (!squared) make_rows(b, parts.b, threads);
      rows_a = parts.a;
      rows_b = squared ? parts.a : parts.b;
    }
    const int workers = threads_for(2 * n * k * bytes_of(type), threads);
    std::atomic<int64_t> next{0};  // the first panels are the longest
    parallel(workers, [&](int index) {
      Scratch mine(parts.own + index * parts.own_bytes);
      const Own memory = own(mine);
      ProductRuns runs;
      for (int64_t panel = next++; panel < panels; panel = next++) {
        run_panel(panel, rows_a, rows_b, memory, runs);
      }
    });
  }

  // to[n, k] = the rows to be multiplied.
  void make_rows(const Tensor& from, std::byte* to, int threads) const {
    const RowSource source(from);
    const int64_t size = bytes_of(type);
    parallel_ranges(n, 16, 2 * n * k * size, threads, [&](Range range) {
      std::byte* const at = to + range.first * k * size;
      if (spec.transposed) {
        transpose_block(source, 0, k, range.first, range.size(), type, at, k);
      } else {
        convert_rows(source, range.first, range.size(), type, type, at, k);
      }
    });
  }

  void run_panel(int64_t panel, const std::byte* rows_a, const std::byte* rows_b, const Own& own,
                 ProductRuns& runs) const {
    const int64_t first = panel * kPanelColumns, columns = width(panel), row_bytes = k * bytes_of(type);
    RowSource source;
    source.add(rows_b + first * row_bytes, type, k, columns, k);
    const int64_t stride = deterministic ? kPanelColumns : columns;
    if (deterministic) {
      std::memset(own.panel, 0, static_cast<size_t>(k * kPanelColumns) * sizeof(float));
      transpose_block(source, 0, columns, 0, k, type, own.panel, kPanelColumns);
    } else {
      const PackedFormat packed = format(columns);
      pack_transposed(source, type, packed, 0, blocks_of_n(packed), own.panel);
    }
    each_block(panel, [&](int64_t row, int64_t rows) {
      const std::byte* const from = rows_a + row * row_bytes;
      if (deterministic) {
        multiply_panel({from, false, k, 1}, reinterpret_cast<const float*>(own.panel), rows, k, false,
                       own.sums, kPanelColumns);
      } else {
        runs(product(rows, columns))(from, own.panel, own.sums, own.scratch);
      }
      finish(own.sums, stride, row, rows, first, columns);
    });
  }

  // Writes a block [rows, columns] of P and its mirror image. Of the square on the diagonal, which its
  // panel's first block begins with, the lower half decides.
  void finish(float* sums, int64_t stride, int64_t row, int64_t rows, int64_t first, int64_t columns) const {
    const int64_t size = bytes_of(out.type);
    for (int64_t r = 0; r < rows; ++r) {
      float* const line = sums + r * stride;
      if (c) {
        const std::byte* const from = c.data() + ((row + r) * n + first) * bytes_of(c.type);
        HWY_DYNAMIC_DISPATCH(blend_row)
        (line, static_cast<float>(spec.alpha), from, c.type == DType::bf16, static_cast<float>(spec.beta),
         columns);
      } else if (spec.alpha != 1) {
        for (int64_t j = 0; j < columns; ++j) line[j] *= static_cast<float>(spec.alpha);
      }
      if (row == first && r < columns) {
        line[r] += static_cast<float>(spec.gamma);
        for (int64_t above = 0; above < r; ++above) sums[above * stride + r] = line[above];
      }
    }
    std::byte* const to = out.data() + (row * n + first) * size;
    for (int64_t r = 0; r < rows; ++r) {
      finish_row(sums + r * stride, false, out.type, to + r * n * size, columns);
    }
    const int64_t square = row == first ? columns : 0;
    if (rows == square) return;
    RowSource below;
    below.add(to + square * n * size, out.type, n, rows - square, columns);
    transpose_block(below, 0, rows - square, 0, columns, out.type,
                    out.data() + (first * n + row + square) * size, n);
  }

  const Tensor &a, &b, &c, &out;
  const op::SymmetricProductSpec& spec;
  int64_t n, k, panels;
  bool deterministic;
  DType type;
  bool squared = false, in_place = false;
};

bool by_reference(const Call& call) {
  return call[0].type == DType::f64 || call[0].elements() == 0;
}

template <Bf16Products kProducts>
void run(const Call& call, const LaunchContext& context) {
  if (by_reference(call)) return call.kind->reference(call);
  SymmetricProduct(call, kProducts).run(context.workspace, context.threads);
}

template <Bf16Products kProducts>
int64_t workspace_bytes(const Call& call, const LaunchContext& context) {
  if (by_reference(call)) return 0;
  Scratch scratch;
  SymmetricProduct(call, kProducts).lay_out(scratch, context.threads);
  return scratch.used();
}

}  // namespace

void add_symmetric_product_kernel(KernelRegistry& registry, Bf16Products products) {
  constexpr auto native = Bf16Products::native, widened = Bf16Products::widened;
  registry.add(op::symmetric_product_kind, products == native
                                               ? Kernel{run<native>, workspace_bytes<native>}
                                               : Kernel{run<widened>, workspace_bytes<widened>});
}

}  // namespace toroid::cpu
#endif  // HWY_ONCE
