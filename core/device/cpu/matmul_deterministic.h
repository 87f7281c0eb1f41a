// Products whose bits do not depend on how many rows, columns or threads there are (docs/design.md section
// 4): every element is summed over the contracted dimension one term after the other by one fused
// multiply-add each, within a slice or a block of tokens, and those sums are added by a balanced binary tree
// in fp32.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "core/device/cpu/pack.h"
#include "core/op/op.h"

namespace toroid::cpu {

// Calls of matmul, matmul_dx and matmul_dw whose tiles are deterministic.
void run_deterministic(const Call& call, std::byte* workspace, int threads, Bf16Products products);
int64_t deterministic_workspace(const Call& call, int threads);

// Calls of loss and loss_grad.
void run_deterministic_loss(const Call& call, std::byte* workspace, int threads, Bf16Products products);
int64_t deterministic_loss_workspace(const Call& call, int threads, Bf16Products products);

// A panel is kPanelColumns columns of B as fp32, [k][kPanelColumns]; missing columns are zero.
inline constexpr int64_t kPanelColumns = 64;

// A's element (row, k) stands at row * row_step + k * k_step.
struct Factor {
  const std::byte* data = nullptr;
  bool bf16 = false;
  int64_t row_step = 0, k_step = 1;

  Factor at(int64_t row, int64_t k) const {
    Factor moved = *this;
    moved.data += (row * row_step + k * k_step) * (bf16 ? 2 : 4);
    return moved;
  }
};

// c[rows][kPanelColumns] (rows c_stride apart; `width` columns where that is fewer) = the products of `a`'s
// rows with the panel's k rows, added in their order to c where `add`, else to zero.
void multiply_panel(const Factor& a, const float* panel, int64_t rows, int64_t k, bool add, float* c,
                    int64_t c_stride);

// Rows [k, k + count) of the columns [column, ...) of a packed weight, as a panel.
void unpack_panel(const PackedWeight& weight, const std::byte* packed, int64_t k, int64_t count,
                  int64_t column, float* panel);
// Rows of a plain matrix, its columns [column, ...).
void fill_panel(const Factor& b, int64_t columns, int64_t k, int64_t count, int64_t column, float* panel);

// Sums of equal blocks, added as a balanced binary tree: neighbours first, as tree.h does, with one block in
// memory for each level.
class TreeSum {
 public:
  TreeSum(float* levels, int64_t elements) : levels_(levels), elements_(elements) {}
  static constexpr int64_t kLevels = 48;
  static int64_t levels_for(int64_t count) {
    int64_t levels = 1;
    while ((int64_t{1} << (levels - 1)) < count) ++levels;
    return levels + 1;
  }

  // Where the next block is to be written; push() then takes it in.
  float* next() { return levels_ + top_ * elements_; }
  void push();
  const float* total();

 private:
  float* levels_;
  int64_t elements_;
  int64_t top_ = 0;
  int64_t count_[kLevels] = {};
};

// Slice i of `slices` of a dimension.
inline int64_t slice_begin(int64_t extent, int64_t slices, int64_t i) {
  return extent * i / slices;
}

}  // namespace toroid::cpu
