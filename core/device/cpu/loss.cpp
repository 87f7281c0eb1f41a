// M tokens, V vocabulary, D d_model. For a block of tokens each thread takes pieces of the vocabulary. First
// pass: a piece's logits, which leave the cache only as exp(logit - their maximum) in the compute type; then
// the normalisers of all pieces meet; second pass: the same numbers become the logits' gradients, and both
// products with them follow while they are in the cache.
#include "core/op/loss.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/round_up.h"
#include "core/device/cpu/loss_rows.h"
#include "core/device/cpu/matmul_deterministic.h"
#include "core/device/cpu/matmul_kernels.h"
#include "core/device/cpu/onednn.h"
#include "core/device/cpu/pack.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/scratch.h"

namespace toroid::cpu {
namespace {

constexpr int64_t kPiece = kTablePiece;  // of the vocabulary
constexpr int64_t kRows = 128;           // logits of so many tokens and one piece are in the cache
constexpr int64_t kTurned = 128;         // rows of d_table's product

struct LossWork {
  LossWork(const Call& call, Bf16Products products)
      : h(call[0]),
        table(call[1]),
        with_gradient(call.kind == &op::loss_grad_kind || call.kind == &op::loss_part_grad_kind),
        by_parts(call.kind == &op::loss_statistics_kind || call.kind == &op::loss_part_grad_kind),
        targets(call[with_gradient ? 3 : 2]),
        result(call[with_gradient ? 5 : 3]),
        spec(spec_of(call, by_parts)),
        packed_forward(table.type, table.shape, Layout::packed_forward, products),
        packed_backward(table.type, table.shape, Layout::packed_backward, products),
        type(packed_forward.product),
        M(h.rows()),
        V(table.rows()),
        D(h.columns()),
        block(std::min(M, spec.block_tokens)),
        pieces((V + kPiece - 1) / kPiece) {
    if (!with_gradient) return;
    backward = call[2];
    dh = call[6];
    d_table = call[7];
    scale = call[4];
  }

  static op::LossPartSpec spec_of(const Call& call, bool by_parts) {
    if (by_parts) return call.get<op::LossPartSpec>();
    const auto& whole = call.get<op::LossSpec>();
    return {whole.softcap, whole.block_tokens, 0, call[1].rows()};
  }

  const Tensor &h, &table;
  bool with_gradient, by_parts;
  const Tensor& targets;
  const Tensor& result;  // token_loss, statistics, or the normalisers that a part's gradient is given
  Tensor backward, dh, d_table, scale;
  op::LossPartSpec spec;
  PackedWeight packed_forward, packed_backward;
  DType type;
  int64_t M, V, D, block, pieces;

  int64_t size() const { return bytes_of(type); }
  int64_t width(int64_t piece) const { return std::min(kPiece, V - piece * kPiece); }
  int64_t padding(int64_t piece) const {
    return std::clamp<int64_t>((piece * kPiece + width(piece)) - spec.valid, 0, width(piece));
  }
  // Where the table's pieces are products of their own, so are those of the logits: dense matrices one after
  // another. Otherwise rows run over the whole vocabulary. A table that is widened is so by pieces.
  bool by_pieces() const { return packed_forward.widened() || packed_backward.pieces() > 1; }

  // A piece of the table as the products read it: [D, columns], or [columns, D] backward. `panel` holds it
  // where it is widened.
  const std::byte* logits_piece(int64_t piece, float* panel) const {
    const PackedFormat format = packed_forward.piece_format(0);
    if (!packed_forward.widened()) return table.data() + format.column_bytes(piece * kPiece);
    widen_panel(format, table.data(), 0, D, piece * kPiece, width(piece), panel);
    return reinterpret_cast<const std::byte*>(panel);
  }
  const std::byte* dh_piece(int64_t piece, float* panel) const {
    const bool apart = packed_backward.pieces() > 1;
    const std::byte* const at = backward.data() + (apart ? packed_backward.piece_offset(piece) : 0);
    if (!packed_backward.widened()) return at;
    widen_panel(packed_backward.piece_format(apart ? piece : 0), at, apart ? 0 : piece * kPiece, width(piece),
                0, D, panel);
    return reinterpret_cast<const std::byte*>(panel);
  }
  int64_t panel_bytes() const {
    if (!packed_forward.widened()) return 0;
    int64_t bytes = 0;
    for (const int64_t columns : {width(0), width(pieces - 1)}) {
      bytes = std::max({bytes, packed_format(type, D, columns, false).bytes(),
                        packed_format(type, columns, D, false).bytes()});
    }
    return bytes;
  }

  Product::Shape logits_product(int64_t rows, int64_t columns) const {
    return {.m = rows,
            .n = columns,
            .k = D,
            .type = type,
            .out = DType::f32,
            .transposed = !packed_forward.widened()};
  }
  Product::Shape dh_product(int64_t rows, int64_t columns, bool accumulate, int threads) const {
    return {.m = rows,
            .n = D,
            .k = columns,
            .type = type,
            .out = DType::f32,
            .accumulate = accumulate,
            .threads = threads};
  }
  Product::Shape table_product(int64_t rows, int64_t columns) const {
    return {.m = columns, .n = D, .k = rows, .type = type, .out = DType::f32, .accumulate = true};
  }

  struct Parts {
    std::byte *h = nullptr, *h_packed = nullptr, *p = nullptr, *slope = nullptr;
    float *max = nullptr, *sum = nullptr, *target = nullptr, *lse = nullptr, *dh = nullptr, *z = nullptr;
    std::byte *turned = nullptr, *scratch = nullptr;
    float* panel = nullptr;
    int64_t scratch_bytes = 0;
    int64_t dh_stride = 0, z_stride = 0, turned_stride = 0, panel_stride = 0;  // elements of one thread
  };

  // Every product of a call, for the largest scratch.
  int64_t scratch_bytes(int threads) const {
    int64_t bytes = 0;
    const auto note = [&](const Product::Shape& shape) {
      bytes = std::max(bytes, Product::get(shape)->scratch_bytes());
    };
    for (const int64_t rows : {block, M % block}) {
      if (rows == 0) continue;
      for (const int64_t columns : {width(0), width(pieces - 1)}) {
        for (const int64_t some : {std::min(kRows, rows), rows % kRows}) {
          if (some > 0) note(logits_product(some, columns));
        }
        if (!with_gradient) continue;
        for (const int64_t some : {std::min(kTurned, columns), columns % kTurned}) {
          if (some > 0) note(table_product(rows, some));
        }
        if (by_pieces()) {
          note(dh_product(rows, columns, false, 1));
          note(dh_product(rows, columns, true, 1));
        }
      }
      if (with_gradient && !by_pieces()) note(dh_product(rows, V, false, threads));
    }
    return round_up(bytes, 4096);
  }

  Parts lay_out(Scratch& scratch, int threads) const {
    Parts parts;
    if (h.type != type) parts.h = scratch.take(block * D * size());
    parts.max = scratch.take<float>(pieces * block);
    parts.sum = scratch.take<float>(pieces * block);
    parts.target = scratch.take<float>(block);
    parts.lse = scratch.take<float>(block);
    parts.z_stride = std::min(kRows, block) * std::min(kPiece, V) + 1024;
    parts.z = scratch.take<float>(parts.z_stride * threads);
    parts.scratch_bytes = scratch_bytes(threads);
    parts.scratch = scratch.take(parts.scratch_bytes * threads);
    parts.panel_stride = round_up(panel_bytes(), 4096) / 4;
    parts.panel = scratch.take<float>(parts.panel_stride * threads);
    if (!with_gradient) return parts;
    parts.h_packed = scratch.take(packed_format(type, block, D, false).bytes());
    if (M % block > 0) {
      // A shorter last block has a layout of its own, which is never larger.
      scratch.take(std::max<int64_t>(0, packed_format(type, M % block, D, false).bytes() -
                                            packed_format(type, block, D, false).bytes()));
    }
    parts.p = scratch.take(block * V * size());
    if (spec.softcap > 0) parts.slope = scratch.take(block * V * size());
    parts.dh_stride = block * D + 1024;
    parts.dh = scratch.take<float>(parts.dh_stride * (by_pieces() ? threads : 1));
    parts.turned_stride = (kTurned * block + 512) * size();
    parts.turned = scratch.take(parts.turned_stride * threads);
    return parts;
  }

  void run(std::byte* workspace, int threads) const {
    Scratch scratch(workspace);
    const Parts parts = lay_out(scratch, threads);
    for (int64_t first = 0; first < M; first += block)
      run_block(parts, first, std::min(block, M - first), threads);
  }

  void run_block(const Parts& parts, int64_t first, int64_t rows, int threads) const {
    const std::byte* x = h.data() + first * D * bytes_of(h.type);
    const RowSource x_rows(h.slice_rows(first, rows));
    if (h.type != type) {
      parallel_ranges(rows, 1, rows * D * 6, threads, [&](Range range) {
        convert_rows(x_rows, range.first, range.size(), type, type, parts.h + range.first * D * size(), D);
      });
      x = parts.h;
    }
    std::fill(parts.target, parts.target + rows, 0.0f);
    const int parallel_parts = static_cast<int>(std::min<int64_t>(threads, pieces));
    parallel(parallel_parts, [&](int index) {
      first_pass(parts, x, first, rows, index, part_of(pieces, parallel_parts, index));
    });
    parallel_ranges(rows, 16, rows * pieces * 64, threads,
                    [&](Range range) { meet(parts, first, rows, range); });
    if (!with_gradient) return;

    const PackedFormat format = packed_format(type, rows, D, false);
    parallel_ranges(blocks_of_k(format), 1, rows * D * 4, threads, [&](Range range) {
      pack_straight(x_rows, h.type, format, range.first, range.last, parts.h_packed);
    });
    parallel(parallel_parts, [&](int index) {
      second_pass(parts, first, rows, index, part_of(pieces, parallel_parts, index));
    });
    int sums = parallel_parts;
    if (!by_pieces()) {
      const ThreadScope scope(threads);
      ProductRun product(Product::get(dh_product(rows, V, false, threads)));
      product(parts.p, backward.data(), parts.dh, parts.scratch);
      sums = 1;
    }
    parallel_ranges(rows, 1, rows * D * 4 * sums, threads, [&](Range range) {
      for (int64_t r = range.first; r < range.last; ++r) {
        float* total = parts.dh + r * D;
        for (int t = 1; t < sums; ++t) {
          finish_row(total + t * parts.dh_stride, true, DType::f32, reinterpret_cast<std::byte*>(total), D);
        }
        finish_row(total, false, dh.type, dh.data() + (first + r) * D * bytes_of(dh.type), D);
      }
    });
  }

  // The first element of a row's share of a piece, in p and slope, and the distance of rows there.
  int64_t piece_at(int64_t piece, int64_t rows) const {
    return by_pieces() ? piece * kPiece * rows : piece * kPiece;
  }
  int64_t piece_stride(int64_t piece) const { return by_pieces() ? width(piece) : V; }

  void first_pass(const Parts& parts, const std::byte* x, int64_t first, int64_t rows, int index,
                  Range range) const {
    float* const z = parts.z + index * parts.z_stride;
    std::byte* const scratch = parts.scratch + index * parts.scratch_bytes;
    ProductRuns runs;
    for (int64_t piece = range.first; piece < range.last; ++piece) {
      const int64_t columns = width(piece);
      const std::byte* const weights = logits_piece(piece, parts.panel + index * parts.panel_stride);
      for (int64_t r = 0; r < rows; r += kRows) {
        const int64_t some = std::min(kRows, rows - r);
        runs(logits_product(some, columns))(x + r * D * size(), weights, z, scratch);
        const int64_t at = (piece_at(piece, rows) + r * piece_stride(piece)) * size();
        exponentials({.z = z,
                      .rows = some,
                      .columns = columns,
                      .padding = padding(piece),
                      .softcap = static_cast<float>(spec.softcap),
                      .max = parts.max + piece * rows + r,
                      .sum = parts.sum + piece * rows + r,
                      .given_max = by_parts && with_gradient ? result.as<float>() + first + r : nullptr,
                      .bf16 = type == DType::bf16,
                      .p = parts.p == nullptr ? nullptr : parts.p + at,
                      .slope = parts.slope == nullptr ? nullptr : parts.slope + at,
                      .stride = piece_stride(piece)});
        for (int64_t i = 0; i < some; ++i) {
          const int64_t target = targets.as<int32_t>()[first + r + i] - spec.first_token - piece * kPiece;
          if (target >= 0 && target < columns) parts.target[r + i] = z[i * columns + target];
        }
      }
    }
  }

  void meet(const Parts& parts, int64_t first, int64_t rows, Range range) const {
    if (by_parts)
      return with_gradient ? scale_pieces(parts, first, rows, range) : tell(parts, first, rows, range);
    normalise(parts.max, parts.sum, pieces, rows, range.first, range.last,
              with_gradient ? scale.as<float>() : nullptr, parts.lse);
    for (int64_t r = range.first; r < range.last; ++r) {
      const bool masked = targets.as<int32_t>()[first + r] < 0;
      result.as<float>()[first + r] = masked ? 0 : parts.lse[r] - parts.target[r];
      if (!masked || !with_gradient) continue;
      for (int64_t piece = 0; piece < pieces; ++piece) parts.max[piece * rows + r] = 0;
    }
  }

  // The statistics of all pieces together.
  void tell(const Parts& parts, int64_t first, int64_t rows, Range range) const {
    for (int64_t r = range.first; r < range.last; ++r) {
      Normaliser all;
      for (int64_t piece = 0; piece < pieces; ++piece) {
        all = cpu::meet(all, {parts.max[piece * rows + r], parts.sum[piece * rows + r]});
      }
      float* const to = result.as<float>() + first + r;
      to[0] = all.max, to[result.row_stride] = all.sum, to[2 * result.row_stride] = parts.target[r];
    }
  }

  // Each piece's factor, from the normalisers of the whole vocabulary. The exponentials were taken beneath
  // its largest logit, as they are where the vocabulary is whole, so that they are rounded alike.
  void scale_pieces(const Parts& parts, int64_t first, int64_t rows, Range range) const {
    for (int64_t r = range.first; r < range.last; ++r) {
      const bool masked = targets.as<int32_t>()[first + r] < 0;
      const float lse = result.as<float>()[result.row_stride + first + r];
      for (int64_t piece = 0; piece < pieces; ++piece) {
        float& factor = parts.max[piece * rows + r];
        factor = masked ? 0 : *scale.as<float>() * std::exp(factor - lse);
      }
    }
  }

  void second_pass(const Parts& parts, int64_t first, int64_t rows, int index, Range range) const {
    std::byte* const scratch = parts.scratch + index * parts.scratch_bytes;
    std::byte* const turned = parts.turned + index * parts.turned_stride;
    float* const sums = parts.dh + index * parts.dh_stride;
    ProductRuns runs;
    for (int64_t piece = range.first; piece < range.last; ++piece) {
      const int64_t columns = width(piece), stride = piece_stride(piece);
      std::byte* const p = parts.p + piece_at(piece, rows) * size();
      logit_gradients(
          {.p = p,
           .slope = parts.slope == nullptr ? nullptr : parts.slope + piece_at(piece, rows) * size(),
           .bf16 = type == DType::bf16,
           .rows = rows,
           .columns = columns,
           .stride = stride,
           .factor = parts.max + piece * rows,
           .target = targets.as<int32_t>() + first,
           .first_column = spec.first_token + piece * kPiece,
           .scale = *scale.as<float>()});
      if (by_pieces()) {
        runs(dh_product(rows, columns, piece > range.first, 1))(
            p, dh_piece(piece, parts.panel + index * parts.panel_stride), sums, scratch);
      }
      RowSource gradients;
      gradients.add(p, type, stride, rows, columns);
      for (int64_t c = 0; c < columns; c += kTurned) {
        const int64_t some = std::min(kTurned, columns - c);
        transpose_block(gradients, 0, rows, c, some, type, turned, rows);
        runs(table_product(rows, some))(turned, parts.h_packed,
                                        d_table.as<float>() + (piece * kPiece + c) * D, scratch);
      }
    }
  }
};

bool left_to_reference(const Call& call) {
  const bool gradient = call.kind == &op::loss_grad_kind || call.kind == &op::loss_part_grad_kind;
  return call[0].type == DType::f64 || call[gradient ? 5 : 3].type == DType::f64;
}

template <Bf16Products kProducts>
void run_loss(const Call& call, const LaunchContext& context) {
  if (left_to_reference(call)) {
    call.kind->reference(call);
  } else if (call[0].rows() > 0 && call.tiles.deterministic) {
    run_deterministic_loss(call, context.workspace, context.threads, kProducts);
  } else if (call[0].rows() > 0) {
    LossWork(call, kProducts).run(context.workspace, context.threads);
  }
}

template <Bf16Products kProducts>
int64_t loss_workspace(const Call& call, const LaunchContext& context) {
  if (left_to_reference(call) || call[0].rows() == 0) return 0;
  if (call.tiles.deterministic) return deterministic_loss_workspace(call, context.threads, kProducts);
  Scratch scratch;
  LossWork(call, kProducts).lay_out(scratch, context.threads);
  return scratch.used();
}

// The statistics of all slices of the vocabulary, as a tree.
void run_merge(const Call& call, const LaunchContext& context) {
  const Tensor& statistics = call[0];
  if (statistics.type != DType::f32) return call.kind->reference(call);
  const int64_t slices = statistics.rows() / 3, M = statistics.columns();
  parallel_ranges(M, 16, statistics.bytes(), context.threads, [&](Range range) {
    auto* const norms = reinterpret_cast<Normaliser*>(context.workspace) + range.first * slices;
    for (int64_t m = range.first; m < range.last; ++m) {
      const float* const from = statistics.as<float>() + m;
      float target = 0;
      for (int64_t s = 0; s < slices; ++s) {
        norms[s] = {from[3 * s * M], from[(3 * s + 1) * M]};
        target += from[(3 * s + 2) * M];
      }
      const Normaliser all = meet_tree(norms, slices, 1);
      const float lse = all.max + std::log(all.sum);
      call[3].as<float>()[m] = all.max;
      call[3].as<float>()[M + m] = lse;
      call[2].as<float>()[m] = call[1].as<int32_t>()[m] < 0 ? 0 : lse - target;
    }
  });
}

int64_t merge_workspace(const Call& call, const LaunchContext&) {
  return call[0].elements() * static_cast<int64_t>(sizeof(Normaliser));
}

template <Bf16Products kProducts>
constexpr Kernel kKernel{run_loss<kProducts>, loss_workspace<kProducts>};

}  // namespace

void add_loss_kernels(KernelRegistry& registry, Bf16Products products) {
  const Kernel kernel =
      products == Bf16Products::native ? kKernel<Bf16Products::native> : kKernel<Bf16Products::widened>;
  registry.add(op::loss_kind, kernel);
  registry.add(op::loss_grad_kind, kernel);
  registry.add(op::loss_statistics_kind, kernel);
  registry.add(op::loss_part_grad_kind, kernel);
  registry.add(op::loss_merge_kind, {run_merge, merge_workspace});
}

}  // namespace toroid::cpu
