// Cross entropy by blocks of tokens: their logits are one product, loss_rows.h does the rest to them in
// place, and two more products take them to h and to the table. M tokens, V vocabulary, D d_model.
//
// In deterministic mode sums over the vocabulary are trees over its slices, those over tokens trees over
// blocks of them. Each element of a product stands for itself there, so that logits may be computed again,
// for all tokens and some columns, where the table's gradient wants them: no bit changes.
#include <algorithm>
#include <string>

#include "core/base/round_up.h"
#include "core/device/cuda/libraries.h"
#include "core/device/cuda/loss_rows.h"
#include "core/device/cuda/product_kernels.h"
#include "core/op/loss.h"

namespace toroid::cuda {
namespace {

class LossOf {
 public:
  explicit LossOf(const Call& call)
      : h_(call[0]),
        table_(call[1]),
        gradient_(call.kind == &op::loss_grad_kind || call.kind == &op::loss_part_grad_kind),
        by_parts_(call.kind == &op::loss_statistics_kind || call.kind == &op::loss_part_grad_kind),
        targets_(call[gradient_ ? 3 : 2]),
        result_(call[gradient_ ? 5 : 3]),
        spec_(spec_of(call, by_parts_)),
        deterministic_(call.tiles.deterministic),
        slices_(deterministic_ ? std::max<int64_t>(call.tiles.slices, 1) : 1),
        slice_columns_((table_.rows() + slices_ - 1) / slices_),
        token_block_(std::max<int64_t>(call.tiles.token_block, 1)),
        M_(h_.rows()),
        D_(h_.columns()),
        block_(std::min(M_, spec_.block_tokens)),
        stride_(round_up(std::max<int64_t>(spec_.valid, 1), kVector)) {
    if (h_.type != DType::f32 && h_.type != DType::bf16) {
      throw UserError("the GPU computes in f32 and bf16, not in " + std::string(name_of(h_.type)) + ": " +
                      describe(call));
    }
    if (!gradient_) return;
    backward_ = call[2];
    scale_ = call[4];
    dh_ = call[6];
    d_table_ = call[7];
  }

  int64_t lay_out(std::byte* workspace) {
    base_ = workspace;
    bytes_ = 0;
    library_ = take(deterministic_ ? 0 : CublasProducts::kWorkspaceBytes);
    const int64_t logits = std::max(block_ * stride_, table_apart() ? M_ : 0);
    z_ = floats(logits);
    if (gradient_)
      d_z_ = h_.type == DType::f32 ? reinterpret_cast<std::byte*>(z_) : take(logits * bytes_of(h_.type));
    if (!by_parts_) {
      statistics_ = floats(3 * slices_ * block_);
      largest_ = floats(M_);
      norms_ = floats(M_);
    }
    return bytes_;
  }

  void run(const LaunchContext& context) {
    lay_out(context.workspace);
    stream_ = static_cast<cudaStream_t>(context.stream);
    if (!deterministic_) products_ = &libraries_of(context).products;
    for (int64_t first = 0; first < M_; first += block_) {
      const int64_t rows = std::min(block_, M_ - first);
      multiply_logits(first, rows, 0, spec_.valid, stride_);
      if (by_parts_ && !gradient_) {
        tell(result_.as<float>() + first, result_.row_stride, first, rows);
      } else if (!by_parts_) {
        tell(statistics_, block_, first, rows);
        merge_statistics(stream_, {statistics_, rows, block_, static_cast<int>(slices_), targets_at(first)},
                         result_.as<float>() + first, largest_ + first, norms_ + first);
      }
      if (!gradient_) continue;
      turn_logits(first, rows, 0, spec_.valid, stride_);
      multiply_h_gradient(first, rows);
      if (!table_apart()) multiply_table_gradient(first, rows, 0, spec_.valid, stride_);
    }
    if (table_apart()) run_table_gradient();
  }

 private:
  static constexpr int64_t kVector = 8;  // elements that begin on 16 bytes, in either type

  static op::LossPartSpec spec_of(const Call& call, bool by_parts) {
    if (by_parts) return call.get<op::LossPartSpec>();
    const auto& whole = call.get<op::LossSpec>();
    return {whole.softcap, whole.block_tokens, 0, call[1].rows()};
  }

  // Whether the table's gradient has a pass of its own, over all tokens.
  bool table_apart() const { return gradient_ && deterministic_ && block_ < M_; }

  std::byte* take(int64_t bytes) {
    constexpr int64_t kAligned = 512;
    const int64_t at = bytes_;
    bytes_ += round_up(bytes, kAligned);
    return base_ == nullptr ? nullptr : base_ + at;
  }
  float* floats(int64_t count) { return reinterpret_cast<float*>(take(count * bytes_of(DType::f32))); }

  const int32_t* targets_at(int64_t first) const { return targets_.as<int32_t>() + first; }
  // Behind as many rows and columns as given.
  static Factor factor_at(const Tensor& t, bool turned, int64_t row) {
    Factor factor(t, turned);
    factor.data += row * t.row_stride * bytes_of(t.type);
    return factor;
  }
  Factor gradient_factor(bool turned, int64_t stride) const {
    Factor factor;
    factor.data = d_z_;
    factor.stride = stride;
    factor.turned = turned;
    return factor;
  }

  // Sums of nothing are the tree's: the library takes no empty matrices.
  void multiply(const MatrixProduct& product, Cut cut) const {
    if (product.rows == 0 || product.columns == 0) return;
    if (deterministic_ || product.depth == 0) return multiply_in_tree(stream_, product, cut);
    products_->multiply(stream_, product, library_);
  }

  // z[rows, columns] of tokens from `first` on and columns of the vocabulary from `column` on.
  void multiply_logits(int64_t first, int64_t rows, int64_t column, int64_t columns, int64_t stride) const {
    multiply({.rows = rows,
              .columns = columns,
              .depth = D_,
              .type = h_.type,
              .a = factor_at(h_, false, first),
              .b = factor_at(table_, false, column),
              .out = reinterpret_cast<std::byte*>(z_),
              .out_stride = stride},
             {});
  }

  LogitRows logits_at(int64_t first, int64_t rows, int64_t column, int64_t columns, int64_t stride) const {
    return {.z = z_,
            .rows = rows,
            .stride = stride,
            .columns = columns,
            .valid = columns,
            .softcap = static_cast<float>(spec_.softcap),
            .targets = targets_at(first),
            .first_token = spec_.first_token + column};
  }

  // The statistics of each slice of these tokens, rows of them `stride` apart.
  void tell(float* to, int64_t stride, int64_t first, int64_t rows) const {
    for (int64_t slice = 0; slice < slices_; ++slice, to += 3 * stride) {
      const int64_t begin = std::min(spec_.valid, slice * slice_columns_),
                    end = std::min(spec_.valid, begin + slice_columns_);
      LogitRows logits = logits_at(first, rows, begin, end - begin, stride_);
      logits.z += begin;
      logit_statistics(stream_, logits, to, to + stride, to + 2 * stride);
    }
  }

  // z becomes d_z, in the type of the products that follow.
  void turn_logits(int64_t first, int64_t rows, int64_t column, int64_t columns, int64_t stride) const {
    const float* const norms = by_parts_ ? result_.as<float>() + result_.row_stride : norms_;
    logit_gradient(stream_, logits_at(first, rows, column, columns, stride), norms + first,
                   scale_.as<float>(), d_z_, h_.type);
  }

  void multiply_h_gradient(int64_t first, int64_t rows) const {
    multiply({.rows = rows,
              .columns = D_,
              .depth = spec_.valid,
              .type = h_.type,
              .a = gradient_factor(false, stride_),
              .b = Factor(backward_, true),
              .out_type = dh_.type,
              .out = dh_.data() + first * dh_.row_stride * bytes_of(dh_.type),
              .out_stride = dh_.row_stride},
             {.block = slice_columns_});
  }

  void multiply_table_gradient(int64_t first, int64_t rows, int64_t column, int64_t columns,
                               int64_t stride) const {
    multiply({.rows = columns,
              .columns = D_,
              .depth = rows,
              .type = h_.type,
              .a = gradient_factor(true, stride),
              .b = factor_at(h_, true, first),
              .out = d_table_.data() + column * d_table_.row_stride * bytes_of(DType::f32),
              .out_stride = d_table_.row_stride,
              .accumulate = true},
             {.block = token_block_});
  }

  // Of all tokens at once, so that their tree is whole: as many columns at a time as have room.
  void run_table_gradient() const {
    const int64_t width = std::max<int64_t>(block_ * stride_ / M_ / kVector * kVector, 1);
    for (int64_t column = 0; column < spec_.valid; column += width) {
      const int64_t columns = std::min(width, spec_.valid - column);
      multiply_logits(0, M_, column, columns, width);
      turn_logits(0, M_, column, columns, width);
      multiply_table_gradient(0, M_, column, columns, width);
    }
  }

  const Tensor &h_, &table_;
  bool gradient_, by_parts_;
  const Tensor& targets_;
  const Tensor& result_;  // token_loss, statistics, or the normalisers that a part's gradient is given
  op::LossPartSpec spec_;
  bool deterministic_;
  int64_t slices_, slice_columns_, token_block_;
  int64_t M_, D_, block_, stride_;  // stride: from one token's logits to the next
  Tensor backward_, scale_, dh_, d_table_;
  std::byte *base_ = nullptr, *library_ = nullptr, *d_z_ = nullptr;
  float *z_ = nullptr, *statistics_ = nullptr, *largest_ = nullptr, *norms_ = nullptr;
  int64_t bytes_ = 0;
  cudaStream_t stream_ = nullptr;
  CublasProducts* products_ = nullptr;
};

void run_loss(const Call& call, const LaunchContext& context) {
  if (call[0].rows() > 0) LossOf(call).run(context);
}

int64_t loss_workspace(const Call& call, const LaunchContext&) {
  return call[0].rows() == 0 ? 0 : LossOf(call).lay_out(nullptr);
}

}  // namespace

void add_loss_product_kernels(KernelRegistry& registry) {
  for (const OpKind* kind :
       {&op::loss_kind, &op::loss_grad_kind, &op::loss_statistics_kind, &op::loss_part_grad_kind}) {
    registry.add(*kind, {run_loss, loss_workspace});
  }
}

}  // namespace toroid::cuda
