// Products of activations [m, k] with a weight W[n, k] ([out, in], as Hugging Face stores it). Accumulation
// is fp32 (f64 for f64). In deterministic mode (tiles) the contraction is a balanced tree over slices (n for
// matmul_dx, k for matmul) or token blocks (matmul_dw). The rows of x and dy may be strided (columns of a
// wider matrix); results are dense.
#pragma once

#include <span>

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind matmul_kind, matmul_dx_kind, matmul_dw_kind, pack_kind;

struct MatmulSpec {
  bool accumulate = false;  // add to the result instead of overwriting it
};

// x[m, k], w packed_forward[n, k] -> y[m, n] (bf16, f32 or f64)
Call matmul(const Tensor& x, const Tensor& w, const Tensor& y, MatmulSpec spec = {});
// dy[m, n], w packed_backward[n, k] -> dx[m, k]
Call matmul_dx(const Tensor& dy, const Tensor& w, const Tensor& dx, MatmulSpec spec = {});
// dy[m, n], x[m, k] -> dw f32[n, k]
Call matmul_dw(const Tensor& dy, const Tensor& x, const Tensor& dw, MatmulSpec spec);

// Stacks the row blocks `parts` (plain [n_i, k], f32 or the packed type) and writes them, rounded, in the
// layout of `packed` [sum n_i, k] (plain, packed_forward or packed_backward).
Call pack(std::span<const Tensor> parts, const Tensor& packed);

}  // namespace toroid::op
