// The loss in canonical tiles: M tokens, V vocabulary in slices, D d_model. Logits are computed twice, so
// that none outlives its window: first for the normalisers, whose slices meet in a tree, then for the
// gradients, which stay in fp32. dh is a tree over slices of the vocabulary, d_table one over blocks of
// tokens.
#include <cmath>

#include "core/device/cpu/loss_rows.h"
#include "core/device/cpu/matmul_deterministic.h"
#include "core/device/cpu/parallel.h"
#include "core/device/cpu/scratch.h"
#include "core/op/loss.h"

namespace toroid::cpu {
namespace {

constexpr int64_t kRows = 128;  // tokens that one thread takes at a time
constexpr int64_t kTile = 32;   // vocabulary rows of one tile of d_table
constexpr int64_t kWindow = kPanelColumns;

class Loss {
 public:
  explicit Loss(const Call& call, Bf16Products products)
      : h_(call[0]),
        table_(call[1]),
        call_(call),
        gradient_(call.kind == &op::loss_grad_kind || call.kind == &op::loss_part_grad_kind),
        by_parts_(call.kind == &op::loss_statistics_kind || call.kind == &op::loss_part_grad_kind),
        targets_(call[gradient_ ? 3 : 2]),
        result_(call[gradient_ ? 5 : 3]),
        softcap_(static_cast<float>(by_parts_ ? call.get<op::LossPartSpec>().softcap
                                              : call.get<op::LossSpec>().softcap)),
        first_token_(by_parts_ ? call.get<op::LossPartSpec>().first_token : 0),
        valid_(by_parts_ ? call.get<op::LossPartSpec>().valid : table_.rows()),
        M_(h_.rows()),
        V_(table_.rows()),
        D_(h_.columns()),
        slices_(std::max<int64_t>(call.tiles.slices, 1)),
        slice_rows_((V_ + slices_ - 1) / slices_),
        block_(std::max<int64_t>(call.tiles.token_block, 1)),
        products_(products),
        rows_{h_.data(), h_.type == DType::bf16, h_.row_stride, 1} {}

  int64_t lay_out(std::byte* workspace, int threads) {
    Scratch scratch(workspace);
    norms_ = scratch.take<Normaliser>(slices_ * M_);
    target_ = scratch.take<float>(M_);
    lse_ = scratch.take<float>(M_);
    own_bytes_ = 0;
    own_bytes_ = up(Own(*this, nullptr).bytes) + 256;
    own_ = scratch.take(own_bytes_ * threads);
    if (gradient_) {
      gradients_ = scratch.take<float>(M_ * kWindow);
      wide_D_ = (D_ + kPanelColumns - 1) / kPanelColumns * kPanelColumns;
      dh_ = scratch.take<float>(TreeSum::levels_for(slices_) * M_ * wide_D_);
      table_panels_ = scratch.take<float>(wide_D_ * kWindow);
    }
    return scratch.used();
  }

  void run(std::byte* workspace, int threads) {
    lay_out(workspace, threads);
    const int64_t row_blocks = (M_ + kRows - 1) / kRows;
    const int workers = static_cast<int>(std::min<int64_t>(threads, row_blocks));
    if (by_parts_ && gradient_) {
      std::memcpy(lse_, result_.as<float>() + result_.row_stride, static_cast<size_t>(M_) * sizeof(float));
    } else {
      parallel(workers, [&](int index) {
        const Own own(*this, own_ + index * own_bytes_);
        const Range range = part_of(row_blocks, workers, index);
        for (int64_t i = range.first; i < range.last; ++i) normalise_rows(own, i * kRows);
      });
    }
    if (gradient_) run_gradient(threads, row_blocks, workers);
  }

 private:
  struct Own {
    Own(const Loss& l, std::byte* base) {
      Scratch scratch(base);
      panel = scratch.take<float>(std::max(l.D_, l.M_) * kPanelColumns);
      z = scratch.take<float>(kRows * kWindow);
      narrow = scratch.take<float>(kRows * kWindow);
      max = scratch.take<float>(kRows);
      sum = scratch.take<float>(kRows);
      levels =
          scratch.take<float>(TreeSum::levels_for((l.M_ + l.block_ - 1) / l.block_) * kTile * kPanelColumns);
      bytes = scratch.used();
    }
    float *panel, *z, *narrow, *max, *sum, *levels;
    int64_t bytes;
  };
  static int64_t up(int64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

  // Logits (soft-capped) of some tokens and one window of the vocabulary -> own.narrow[rows, width] and the
  // statistics of each row.
  void logits(const Own& own, int64_t row, int64_t rows, int64_t width) const {
    multiply_panel(rows_.at(row, 0), own.panel, rows, D_, false, own.z, kWindow);
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(own.narrow + r * width, own.z + r * kWindow, static_cast<size_t>(width) * sizeof(float));
    }
    exponentials({.z = own.narrow,
                  .rows = rows,
                  .columns = width,
                  .softcap = softcap_,
                  .max = own.max,
                  .sum = own.sum});
  }

  // Equal slices, the last ones shorter or empty: so are those of a vocabulary that is padded and cut.
  int64_t begin_of(int64_t slice) const { return std::min(valid_, slice * slice_rows_); }

  void normalise_rows(const Own& own, int64_t row) const {
    const int64_t rows = std::min(kRows, M_ - row);
    const PackedWeight weight(table_.type, table_.shape, Layout::packed_forward, products_);
    std::fill(target_ + row, target_ + row + rows, 0.0f);
    for (int64_t slice = 0; slice < slices_; ++slice) {
      const int64_t begin = begin_of(slice), end = begin_of(slice + 1);
      std::fill(norms_ + slice * M_ + row, norms_ + slice * M_ + row + rows, Normaliser{});
      for (int64_t v = begin; v < end; v += kWindow) {
        const int64_t width = std::min(kWindow, end - v);
        unpack_panel(weight, table_.data(), 0, D_, v, own.panel);
        logits(own, row, rows, width);
        for (int64_t r = 0; r < rows; ++r) {
          Normaliser& norm = norms_[slice * M_ + row + r];
          const Normaliser here{own.max[r], own.sum[r]};
          norm = v == begin ? here : meet(norm, here);
          const int64_t target = targets_.as<int32_t>()[row + r] - first_token_ - v;
          if (target >= 0 && target < width) target_[row + r] = own.narrow[r * width + target];
        }
      }
    }
    if (by_parts_) return tell(row, rows);
    for (int64_t r = row; r < row + rows; ++r) {
      const Normaliser all = meet_tree(norms_ + r, slices_, M_);
      lse_[r] = all.max + std::log(all.sum);
      result_.as<float>()[r] = targets_.as<int32_t>()[r] < 0 ? 0 : lse_[r] - target_[r];
    }
  }

  // The statistics of each slice, for others to merge.
  void tell(int64_t row, int64_t rows) const {
    for (int64_t slice = 0; slice < slices_; ++slice) {
      float* const to = result_.as<float>() + 3 * slice * result_.row_stride;
      const int64_t begin = first_token_ + begin_of(slice), end = first_token_ + begin_of(slice + 1);
      for (int64_t r = row; r < row + rows; ++r) {
        const int64_t target = targets_.as<int32_t>()[r];
        to[r] = norms_[slice * M_ + r].max;
        to[result_.row_stride + r] = norms_[slice * M_ + r].sum;
        to[2 * result_.row_stride + r] = target >= begin && target < end ? target_[r] : 0;
      }
    }
  }

  void run_gradient(int threads, int64_t row_blocks, int workers) const {
    TreeSum dh(dh_, M_ * wide_D_);
    for (int64_t slice = 0; slice < slices_; ++slice) {
      const int64_t begin = begin_of(slice), end = begin_of(slice + 1);
      float* const sums = dh.next();
      std::memset(sums, 0, static_cast<size_t>(M_ * wide_D_) * sizeof(float));
      for (int64_t v = begin; v < end; v += kWindow) {
        const int64_t width = std::min(kWindow, end - v);
        unpack_rows(v, width);
        parallel(workers, [&](int index) {
          const Own own(*this, own_ + index * own_bytes_);
          const Range range = part_of(row_blocks, workers, index);
          const PackedWeight weight(table_.type, table_.shape, Layout::packed_forward, products_);
          unpack_panel(weight, table_.data(), 0, D_, v, own.panel);
          for (int64_t i = range.first; i < range.last; ++i) token_gradients(own, i * kRows, v, width, sums);
        });
        table_gradients(v, width, threads);
      }
      dh.push();
    }
    const float* const total = dh.total();
    const Tensor& out = call_[6];
    for (int64_t r = 0; r < M_; ++r) {
      finish_row(total + r * wide_D_, false, out.type, out.data() + r * out.row_stride * bytes_of(out.type),
                 D_);
    }
  }

  // The window's rows of the table, as panels of d_model's columns.
  void unpack_rows(int64_t v, int64_t width) const {
    const PackedWeight weight(call_[2].type, call_[2].shape, Layout::packed_backward, products_);
    for (int64_t d = 0; d < D_; d += kPanelColumns) {
      unpack_panel(weight, call_[2].data(), v, width, d, table_panels_ + d * kWindow);
    }
  }

  // d_logit = scale (softmax - onehot) slope -> gradients_[row, ...]; dh += d_logit E.
  void token_gradients(const Own& own, int64_t row, int64_t v, int64_t width, float* dh) const {
    const int64_t rows = std::min(kRows, M_ - row);
    const float scale = *call_[4].as<float>();
    logits(own, row, rows, width);
    for (int64_t r = 0; r < rows; ++r) {
      float* const to = gradients_ + (row + r) * kWindow;
      const int64_t target = targets_.as<int32_t>()[row + r];
      for (int64_t j = 0; j < width; ++j) {
        const float z = own.narrow[r * width + j], t = softcap_ > 0 ? z / softcap_ : 0;
        const float p = std::exp(z - lse_[row + r]) - (first_token_ + v + j == target ? 1.0f : 0.0f);
        to[j] = target < 0 ? 0 : p * scale * (1 - t * t);
      }
    }
    const Factor factor{reinterpret_cast<const std::byte*>(gradients_ + row * kWindow), false, kWindow, 1};
    for (int64_t d = 0; d < D_; d += kPanelColumns) {
      multiply_panel(factor, table_panels_ + d * kWindow, rows, width, true, dh + row * wide_D_ + d, wide_D_);
    }
  }

  void table_gradients(int64_t v, int64_t width, int threads) const {
    const int64_t panels = (D_ + kPanelColumns - 1) / kPanelColumns;
    const int workers = static_cast<int>(std::min<int64_t>(threads, panels));
    parallel(workers, [&](int index) {
      const Own own(*this, own_ + index * own_bytes_);
      const Range range = part_of(panels, workers, index);
      for (int64_t panel = range.first; panel < range.last; ++panel) {
        const int64_t d = panel * kPanelColumns, columns = std::min(kPanelColumns, D_ - d);
        fill_panel(rows_, D_, 0, M_, d, own.panel);
        for (int64_t i = 0; i < width; i += kTile) {
          const int64_t rows = std::min(kTile, width - i);
          TreeSum sum(own.levels, kTile * kPanelColumns);
          for (int64_t token = 0; token < M_; token += block_) {
            const Factor turned{reinterpret_cast<const std::byte*>(gradients_ + token * kWindow + i), false,
                                1, kWindow};
            multiply_panel(turned, own.panel + token * kPanelColumns, rows, std::min(block_, M_ - token),
                           false, sum.next(), kPanelColumns);
            sum.push();
          }
          const float* const total = sum.total();
          for (int64_t r = 0; r < rows; ++r) {
            float* const to = call_[7].as<float>() + (v + i + r) * call_[7].row_stride + d;
            finish_row(total + r * kPanelColumns, true, DType::f32, reinterpret_cast<std::byte*>(to),
                       columns);
          }
        }
      }
    });
  }

  const Tensor &h_, &table_;
  const Call& call_;
  bool gradient_, by_parts_;
  const Tensor& targets_;
  const Tensor& result_;  // token_loss, statistics, or the normalisers that a part's gradient is given
  float softcap_;
  int64_t first_token_, valid_;  // of the table's rows
  int64_t M_, V_, D_, slices_, slice_rows_, block_;
  Bf16Products products_;
  Factor rows_;
  Normaliser* norms_ = nullptr;
  float *target_ = nullptr, *lse_ = nullptr, *gradients_ = nullptr, *dh_ = nullptr, *table_panels_ = nullptr;
  std::byte* own_ = nullptr;
  int64_t own_bytes_ = 0, wide_D_ = 0;
};

}  // namespace

void run_deterministic_loss(const Call& call, std::byte* workspace, int threads, Bf16Products products) {
  Loss(call, products).run(workspace, threads);
}

int64_t deterministic_loss_workspace(const Call& call, int threads, Bf16Products products) {
  return Loss(call, products).lay_out(nullptr, threads);
}

}  // namespace toroid::cpu
