// M tokens, V vocabulary, D d_model.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

// x[M, D] = table[ids[m] - first_row] * cast(scale); an id outside [first_row, first_row + V) gives zeros
// (the row lies in another slice of the vocabulary). Scale and row are rounded to x's type first
// (docs/design.md section 4), so that a master and its gathered bf16 copy give the same x.
struct EmbedSpec {
  double scale = 1;
  int64_t first_row = 0;
};
extern const OpKind embed_kind, embed_grad_kind;

// ids i32[M], table [V, D] plain -> x[M, D]
Call embed(const Tensor& ids, const Tensor& table, const Tensor& x, EmbedSpec spec);
// d_table f32[V, D] += scale * dx, rows in the order of the tokens (so the bits do not depend on threads).
Call embed_grad(const Tensor& ids, const Tensor& dx, const Tensor& d_table, EmbedSpec spec);

}  // namespace toroid::op
