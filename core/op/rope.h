// Rotary position embedding on split halves (Su et al. 2021; Gemma's form) and, where the model has it, the
// norm of queries and keys before it (Gemma 3). M tokens, N query heads, K key/value heads, H head_dim.
// qkv[M, (N + 2K) H] holds queries, keys, values of a token in this order.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind rope_table_kind, rope_kind, rope_grad_kind;

struct RopeTableSpec {
  double base = 10000;
  double scale = 1;  // positions are divided by it
};
// positions i32[M] -> table f32[M, H]: cosines of the H/2 angles, then their sines. Angle i = position /
// scale * base^(-2i/H), the frequency rounded to fp32 and the product taken in fp32, as the reference does.
Call rope_table(const Tensor& positions, const Tensor& table, RopeTableSpec spec);

struct RopeSpec {
  int64_t heads = 1, kv_heads = 1, head_dim = 2;  // without heads of one sort, qkv holds the other alone
  double eps = 1e-6;
};
// Rotates queries and keys: (a, b) = halves -> (a cos - b sin, b cos + a sin), in fp32, one rounding at the
// end. Values pass. With wq[H] and wk[H] the rows are normed first (rounded to the compute type between), and
// rstd f32[M, N + K] is kept. out may be qkv where there is no norm.
Call rope(const Tensor& qkv, const Tensor& table, const Tensor& wq, const Tensor& wk, const Tensor& out,
          const Tensor& rstd, RopeSpec spec);
// d_out[M, (N + 2K) H] -> d_qkv (may be d_out). With norms: qkv (before the norm), wq, wk, rstd are read and
// dwq f32[H], dwk f32[H] are added to.
Call rope_grad(const Tensor& d_out, const Tensor& table, const Tensor& qkv, const Tensor& wq,
               const Tensor& wk, const Tensor& rstd, const Tensor& d_qkv, const Tensor& dwq,
               const Tensor& dwk, RopeSpec spec);

}  // namespace toroid::op
