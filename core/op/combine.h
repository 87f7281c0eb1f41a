// Sums of two arrays with factors, and an array over its own norm: what is between the products of a matrix
// polynomial. Computed in fp32 and rounded once.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind combine_kind, unit_norm_kind;

// out = alpha x + beta y: floats of one shape, dense; out may be x or y where it has its type.
struct CombineSpec {
  double alpha = 1, beta = 1;
};
Call combine(const Tensor& x, const Tensor& y, const Tensor& out, CombineSpec spec);

// y = x / max(sqrt(sum of squares), epsilon), x f32 or f64 and y any float of its shape, dense; squares
// f32[P]: the sums of x's blocks (reduce.h).
struct UnitNormSpec {
  double epsilon = 1e-7;
};
Call unit_norm(const Tensor& x, const Tensor& squares, const Tensor& y, UnitNormSpec spec);

}  // namespace toroid::op
