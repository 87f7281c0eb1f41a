// Sums whose order is fixed: blocks of kReduceBlock elements, a balanced binary tree over the blocks.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

inline constexpr int64_t kReduceBlock = 4096;
constexpr int64_t reduce_blocks(int64_t elements) {
  return (elements + kReduceBlock - 1) / kReduceBlock;
}

extern const OpKind sum_squares_kind, sum_kind;

// x f32[n] -> partial f32[ceil(n / kReduceBlock)], the sum of squares of each block.
Call sum_squares(const Tensor& x, const Tensor& partial);
// x f32[n] -> total f32[1] (+= where accumulate)
struct SumSpec {
  bool accumulate = false;
};
Call sum(const Tensor& x, const Tensor& total, SumSpec spec = {});

}  // namespace toroid::op
