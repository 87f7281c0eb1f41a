// Calls of attention that have shapes and no numbers, as a dry run asks about them.
#pragma once

#include <memory>

#include "core/op/attention.h"
#include "core/tensor/block.h"
#include "core/tensor/tensor.h"

namespace toroid::testing {

// Of one sequence of T queries and as many keys, in bf16.
struct ShapedAttention {
  explicit ShapedAttention(int64_t T, const op::AttentionSpec& spec, bool with_lse = true) {
    const Tensor q = matrix(DType::bf16, T, spec.heads * spec.head_dim);
    const Tensor k = matrix(DType::bf16, T, spec.kv_heads * spec.head_dim);
    const Tensor lse = matrix(DType::f32, spec.heads, T);
    const Tensor starts = matrix(DType::i32, T, 1).reshape({T});
    forward = op::attention(q, k, k, starts, q, with_lse ? lse : Tensor{}, spec);
    backward = op::attention_grad(q, q, k, k, q, lse, starts, q, k, k, spec);
  }

  Call forward, backward;

 private:
  Tensor matrix(DType type, int64_t rows, int64_t columns) const {
    Tensor t;
    t.block = block_.get();
    t.type = type;
    t.shape = {rows, columns};
    t.row_stride = columns;
    return t;
  }

  std::shared_ptr<Block> block_ = std::make_shared<Block>();  // none is read
};

}  // namespace toroid::testing
