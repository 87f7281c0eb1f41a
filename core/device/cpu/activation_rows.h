// The element-wise work of the MLP's activation and of its gradient, on rows.
#pragma once

#include <cstdint>

#include "core/device/cpu/matrix.h"
#include "core/op/activation.h"

namespace toroid::cpu {

// M tokens, F ffn hidden per branch; all matrices hold elements of one type.
struct ActivationRows {
  op::ActivationSpec spec;
  int64_t F = 0;
  Matrix pre, act;      // [M, F or 2 F if gated], [M, F]; the gradient leaves out `act` where it is absent
  Matrix d_act, d_pre;  // absent: the activation itself
};

// Of the rows [first, last).
void activation_rows_f32(const ActivationRows& rows, int64_t first, int64_t last);
void activation_rows_bf16(const ActivationRows& rows, int64_t first, int64_t last);

}  // namespace toroid::cpu
