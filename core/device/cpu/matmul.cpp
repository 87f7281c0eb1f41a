// m tokens, n outputs, k inputs.
#include "core/op/matmul.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/device/cpu/matmul_deterministic.h"
#include "core/device/cpu/matmul_kernels.h"
#include "core/device/cpu/matmul_widened.h"
#include "core/device/cpu/pack.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/scratch.h"

namespace toroid::cpu {
namespace {

constexpr int64_t kBlockRows = 512;  // rows that pass through the workspace at a time

bool any_f64(const Call& call) {
  for (const Operand& operand : call.operands) {
    if (operand.tensor && operand.tensor.type == DType::f64) return true;
  }
  return false;
}

// y (+)= x times a packed weight. x and y go to oneDNN as they are where they are dense and of types that it
// multiplies; otherwise blocks of rows are copied in and out.
struct WeightProduct {
  explicit WeightProduct(const Call& call, Bf16Products products)
      : x(call[0]),
        w(call[1]),
        y(call[2]),
        accumulate(call.get<op::MatmulSpec>().accumulate),
        weight(w.type, w.shape, w.layout, products) {
    in_place = x.type == weight.product && x.dense();
    out_in_place = (y.type == DType::f32 || y.type == weight.product) && weight.pieces() == 1;
  }
  int64_t block_rows() const { return in_place && out_in_place ? x.rows() : std::min(kBlockRows, x.rows()); }
  std::shared_ptr<const Product> product(int64_t rows, int64_t piece, int threads) const {
    return Product::get({.m = rows,
                         .n = weight.columns,
                         .k = weight.piece_rows(piece),
                         .type = weight.product,
                         .out = out_in_place ? y.type : DType::f32,
                         .transposed = !weight.backward,
                         .accumulate = out_in_place ? accumulate : piece > 0,
                         .threads = threads});
  }

  const Tensor &x, &w, &y;
  bool accumulate;
  PackedWeight weight;
  bool in_place = false, out_in_place = false;

  struct Parts {
    std::byte *a = nullptr, *piece = nullptr, *scratch = nullptr;
    float* c = nullptr;
  };
  // The workspace: A's rows, one piece's columns of them, C's rows, oneDNN's scratch.
  Parts lay_out(Scratch& scratch, int threads) const {
    const int64_t rows = block_rows(), size = bytes_of(weight.product);
    Parts parts;
    if (!in_place) parts.a = scratch.take(rows * x.columns() * size);
    if (weight.pieces() > 1) parts.piece = scratch.take(rows * weight.piece * size);
    if (!out_in_place) parts.c = scratch.take<float>(rows * y.columns());
    int64_t bytes = 0;
    const int64_t tail = x.rows() % rows;
    for (const int64_t m : {rows, tail}) {
      for (const int64_t piece :
           {int64_t{0}, std::min<int64_t>(1, weight.pieces() - 1), weight.pieces() - 1}) {
        if (m > 0) bytes = std::max(bytes, product(m, piece, threads)->scratch_bytes());
      }
    }
    parts.scratch = scratch.take(bytes);
    return parts;
  }

  void run(std::byte* workspace, int threads) const {
    Scratch scratch(workspace);
    const Parts parts = lay_out(scratch, threads);
    const ThreadScope scope(threads);
    for (int64_t first = 0; first < x.rows(); first += block_rows()) {
      run_block(parts, first, std::min(block_rows(), x.rows() - first), threads);
    }
  }

  void run_block(const Parts& parts, int64_t first, int64_t rows, int threads) const {
    const int64_t size = bytes_of(weight.product);
    const std::byte* a = x.data() + first * x.row_stride * bytes_of(x.type);
    if (!in_place) {
      copy_columns(RowSource(x.slice_rows(first, rows)), parts.a, threads);
      a = parts.a;
    }
    std::byte* const out = y.data() + first * y.row_stride * bytes_of(y.type);
    void* const c = out_in_place ? static_cast<void*>(out) : parts.c;
    for (int64_t i = 0; i < weight.pieces(); ++i) {
      const std::byte* from = a;
      if (weight.pieces() > 1) {
        RowSource columns;
        columns.add(a + i * weight.piece * size, weight.product, x.columns(), rows, weight.piece_rows(i));
        copy_columns(columns, parts.piece, threads);
        from = parts.piece;
      }
      ProductRun product_run(product(rows, i, threads));
      product_run(from, w.data() + weight.piece_offset(i), c, parts.scratch);
    }
    if (out_in_place) return;
    parallel_ranges(rows, 1, rows * y.columns() * 6, threads, [&](Range range) {
      for (int64_t r = range.first; r < range.last; ++r) {
        finish_row(parts.c + r * y.columns(), accumulate, y.type, out + r * y.row_stride * bytes_of(y.type),
                   y.columns());
      }
    });
  }

  void copy_columns(const RowSource& from, std::byte* to, int threads) const {
    const int64_t size = bytes_of(weight.product);
    parallel_ranges(from.rows(), 1, from.rows() * from.columns() * 2 * size, threads, [&](Range range) {
      convert_rows(from, range.first, range.size(), weight.product, weight.product,
                   to + range.first * from.columns() * size, from.columns());
    });
  }
};

// dw[n, k] (+)= dy^T x. x is packed once by all threads; each takes slabs of dy's columns, turns a slab in
// its cache and multiplies it with x on its own.
struct GradientProduct {
  explicit GradientProduct(const Call& call, Bf16Products products)
      : dy(call[0]),
        x(call[1]),
        dw(call[2]),
        accumulate(call.get<op::MatmulSpec>().accumulate),
        type(product_type(x.type, products)),
        format(packed_format(type, x.rows(), x.columns(), false)) {}

  // Columns of dy in a slab: equal shares, few enough that a slab stays in the second-level cache.
  int64_t slab(int threads) const {
    const int64_t n = dw.rows(), each = threads * kSlab, rounds = (n + each - 1) / each;
    const int64_t share = (n + threads * rounds - 1) / (threads * rounds);
    return std::min(n, (share + 15) / 16 * 16);
  }
  std::shared_ptr<const Product> product(int64_t columns) const {
    return Product::get({.m = columns,
                         .n = x.columns(),
                         .k = x.rows(),
                         .type = type,
                         .out = DType::f32,
                         .transposed = false,
                         .accumulate = accumulate,
                         .threads = 1});
  }
  struct Parts {
    std::byte *packed = nullptr, *slabs = nullptr, *scratch = nullptr;
    int64_t slab_bytes = 0, scratch_bytes = 0;
  };
  Parts lay_out(Scratch& scratch, int threads) const {
    Parts parts;
    parts.packed = scratch.take(format.bytes());
    const int64_t columns = slab(threads), tail = dw.rows() % columns;
    parts.slab_bytes = columns * x.rows() * bytes_of(type) + kApart;
    parts.slabs = scratch.take(parts.slab_bytes * threads);
    parts.scratch_bytes = product(columns)->scratch_bytes();
    if (tail > 0) parts.scratch_bytes = std::max(parts.scratch_bytes, product(tail)->scratch_bytes());
    parts.scratch_bytes = (parts.scratch_bytes + kApart - 1) / kApart * kApart;
    parts.scratch = scratch.take(parts.scratch_bytes * threads);
    return parts;
  }

  void run(std::byte* workspace, int threads) const {
    Scratch scratch(workspace);
    const Parts parts = lay_out(scratch, threads);
    const RowSource x_rows(x), dy_rows(dy);
    parallel_ranges(blocks_of_k(format), 1, x.bytes() * 2, threads, [&](Range range) {
      pack_straight(x_rows, x.type, format, range.first, range.last, parts.packed);
    });
    const int64_t columns = slab(threads), n = dw.rows(), slabs = (n + columns - 1) / columns;
    const int64_t tail = n - (slabs - 1) * columns;
    const std::shared_ptr<const Product> whole = product(columns), last = product(tail);
    parallel(static_cast<int>(std::min<int64_t>(threads, slabs)), [&](int index) {
      const Range range = part_of(slabs, static_cast<int>(std::min<int64_t>(threads, slabs)), index);
      std::byte* const turned = parts.slabs + index * parts.slab_bytes;
      std::byte* const own = parts.scratch + index * parts.scratch_bytes;
      ProductRun run_whole(whole), run_last(last);
      for (int64_t i = range.first; i < range.last; ++i) {
        const int64_t width = i + 1 < slabs ? columns : tail;
        transpose_block(dy_rows, 0, dy.rows(), i * columns, width, type, turned, dy.rows());
        float* const to = dw.as<float>() + i * columns * dw.row_stride;
        (width == columns ? run_whole : run_last)(turned, parts.packed, to, own);
      }
    });
  }

  static constexpr int64_t kSlab = 256, kApart = 4096;
  const Tensor &dy, &x, &dw;
  bool accumulate;
  DType type;
  PackedFormat format;
};

// A stored weight whose panels are widened. What a weight's gradient multiplies is widened as it is packed.
template <class Kind, Bf16Products kProducts>
bool by_panels(const Call& call) {
  return std::is_same_v<Kind, WeightProduct> && kProducts == Bf16Products::widened &&
         call[1].type == DType::bf16;
}

template <class Kind, Bf16Products kProducts>
void run_fast(const Call& call, const LaunchContext& context) {
  if (any_f64(call)) {
    call.kind->reference(call);
  } else if (call[0].elements() == 0 || call[2].elements() == 0) {
    // A sum of no terms.
    const Tensor& to = call[2];
    if (!call.get<op::MatmulSpec>().accumulate) std::memset(to.data(), 0, static_cast<size_t>(to.bytes()));
  } else if (call.tiles.deterministic) {
    run_deterministic(call, context.workspace, context.threads, kProducts);
  } else if (by_panels<Kind, kProducts>(call)) {
    run_widened(call, context.workspace, context.threads);
  } else {
    Kind(call, kProducts).run(context.workspace, context.threads);
  }
}

template <class Kind, Bf16Products kProducts>
int64_t workspace_fast(const Call& call, const LaunchContext& context) {
  if (any_f64(call) || call[0].elements() == 0 || call[2].elements() == 0) return 0;
  if (call.tiles.deterministic) return deterministic_workspace(call, context.threads);
  if (by_panels<Kind, kProducts>(call)) return widened_workspace(call, context.threads);
  Scratch scratch;
  Kind(call, kProducts).lay_out(scratch, context.threads);
  return scratch.used();
}

template <Bf16Products kProducts>
void add_kernels(KernelRegistry& registry) {
  const Kernel of_weight{run_fast<WeightProduct, kProducts>, workspace_fast<WeightProduct, kProducts>};
  registry.add(op::matmul_kind, of_weight);
  registry.add(op::matmul_dx_kind, of_weight);
  registry.add(op::matmul_dw_kind,
               {run_fast<GradientProduct, kProducts>, workspace_fast<GradientProduct, kProducts>});
}

}  // namespace

void add_product_kernels(KernelRegistry& registry, Bf16Products products) {
  products == Bf16Products::native ? add_kernels<Bf16Products::native>(registry)
                                   : add_kernels<Bf16Products::widened>(registry);
}

int64_t packed_bytes(DType type, const Shape& shape, Layout layout, Bf16Products products) {
  if (layout == Layout::plain || type == DType::f64 || shape.rank() != 2)
    return shape.elements() * bytes_of(type);
  return PackedWeight(type, shape, layout, products).bytes();
}

}  // namespace toroid::cpu
