// A product that is known to be symmetric, such as a Gram matrix or a product of polynomials in one: half of
// it is computed, the rest is its mirror image.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

extern const OpKind symmetric_product_kind;

// out = alpha P + beta c + gamma I, [n, n], with P = a b^T of a and b [n, k] or, `transposed`, P = a^T b of a
// and b [k, n]. The caller vouches that P and c are symmetric: what lies on and below the diagonal decides.
// a, b, c and out are dense, c and out of a's type or f32. P is accumulated in fp32 (f64 for f64), and a sum
// is rounded once. Charged for half of P's FLOPs.
struct SymmetricProductSpec {
  bool transposed = false;
  double alpha = 1, beta = 0, gamma = 0;
};
// c: absent where beta is zero. out is none of the other operands.
Call symmetric_product(const Tensor& a, const Tensor& b, const Tensor& c, const Tensor& out,
                       SymmetricProductSpec spec);

}  // namespace toroid::op
