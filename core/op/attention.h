// Causal attention within documents, by blocks with a running softmax in fp32 (Dao et al. 2022): T x S never
// exists. B sequences of T queries and S >= T keys (S > T where a cache holds earlier tokens), N query heads,
// K key/value heads, H head_dim. Key/value head g serves query heads [g N/K, (g+1) N/K). Query t of a
// sequence (its index among the keys is t + S - T) sees key s iff  starts[t] <= s <= t + S - T  and, with a
// window W, s > t + S - T - W. Score: scale * q.k, soft-capped (c tanh(score / c)) before the mask.
// Probabilities are rounded to the compute type before P V.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind attention_kind, attention_grad_kind;

struct AttentionSpec {
  int64_t sequences = 1, heads = 1, kv_heads = 1, head_dim = 1;
  double scale = 1;
  int64_t window = 0;     // 0: none
  double softcap = 0;     // 0: none
  bool documents = true;  // false: all starts are 0, and need not be read
};

// q[B T, N H], k and v[B S, K H] (rows may be strided: views into qkv), starts i32[B T] -> o[B T, N H],
// lse f32[N, B T] (natural log of the sum of exponentials of the scores; optional)
Call attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& starts, const Tensor& o,
               const Tensor& lse, AttentionSpec spec);
// d_o, q, k, v, o, lse, starts -> dq, dk, dv (written, not added; rows may be strided). dk and dv are of the
// compute type, or f32 where they are partial sums: a model axis may split the query heads that share a
// key/value head. In deterministic mode dk and dv are trees over `slices` equal groups of query heads and
// over blocks of queries.
Call attention_grad(const Tensor& d_o, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& o,
                    const Tensor& lse, const Tensor& starts, const Tensor& dq, const Tensor& dk,
                    const Tensor& dv, AttentionSpec spec);

}  // namespace toroid::op
