// Arrays that travel in fewer bits than fp32, with error feedback (Seide et al. 2014; Karimireddy et al.
// 2019): what a transmission rounds away is kept and added to the next one, so that the sum of what was sent
// stays within one rounding of the sum of what was meant.
//
// Wires of n values:
//   bf16[n]                each value rounded to nearest even
//   u8[quantised_bytes(n)] for each block of kQuantBlock values q_i as int8, then their scale s as bf16;
//                          s = max|y| / 127 rounded up to bf16, q_i = y_i / s rounded to nearest even. A
//                          block without a magnitude above kLeastQuantised is sent as zeros.
// q s has 15 bits and y - q s is a float too, so no other rounding enters: every device has the same bits. A
// value that is not finite makes all of its block arrive as NaN (bf16: itself).
//
// What did not fit into fewer bits travels as f32[n] and is summed by the same operator.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

inline constexpr int64_t kQuantBlock = 256;
inline constexpr int64_t kQuantBlockBytes = kQuantBlock + 2;
inline constexpr float kLeastQuantised = 1e-30f;
constexpr int64_t quantised_bytes(int64_t elements) {
  return elements / kQuantBlock * kQuantBlockBytes;
}
// The scale of a block whose largest magnitude is `largest`.
float quantised_scale(float largest);

extern const OpKind compress_kind, sum_wires_kind;

// y = x + residual; wire = y rounded; x becomes y - wire, what has not been sent. All of n values, for the
// u8 wire a multiple of kQuantBlock.
Call compress(const Tensor& x, const Tensor& residual, const Tensor& wire);
// How the rows of wires are added: one after the other, ((0 + 1) + 2) + ..., or as the balanced binary tree
// over them in order, ((0 + 1) + (2 + 3)) + ..., which f32 and bf16 wires have.
enum class RowOrder : uint8_t { in_turn, tree };
// wires [P, ...], one row a rank (rows may be strided) -> total f32[n].
Call sum_wires(const Tensor& wires, const Tensor& total, RowOrder order = RowOrder::in_turn);

}  // namespace toroid::op
