// RMSNorm in Gemma's form: y = cast(f32(x) * rsqrt(mean(x^2) + eps) * (1 + f32(w))), one cast, at the end
// (Zhang and Sennrich 2019; golden/ checks the cast). M tokens, D d_model.
#pragma once

#include "core/op/op.h"

namespace toroid::op {

struct NormSpec {
  double eps = 1e-6;
};
extern const OpKind rms_norm_kind, rms_norm_grad_kind, residual_add_kind, residual_norm_kind;

// x[M, D], w[D] -> y[M, D], rstd f32[M] (optional: pass {} where it is not wanted)
Call rms_norm(const Tensor& x, const Tensor& w, const Tensor& y, const Tensor& rstd, NormSpec spec);

// dy[M, D], x, w, rstd -> dx[M, D] = d(norm) (+ skip[M, D] where given; dx may be skip or dy), dw f32[D] +=.
// Where `y` is given, the norm's output is written there again (recomputation at no extra pass).
Call rms_norm_grad(const Tensor& dy, const Tensor& x, const Tensor& w, const Tensor& rstd, const Tensor& skip,
                   const Tensor& dx, const Tensor& dw, const Tensor& y, NormSpec spec);

// out[M, D] = x + f, or x + norm(f; w_post) where w_post is given, which also gives rstd_post f32[M].
// The post-norm's result is rounded to f's type before it is added. out may be x.
Call residual_add(const Tensor& x, const Tensor& f, const Tensor& w_post, const Tensor& out,
                  const Tensor& rstd_post, NormSpec spec);

// residual_add and then rms_norm of the sum, in one pass: mid[M, D], y[M, D] = norm(mid; w), rstd f32[M].
Call residual_norm(const Tensor& x, const Tensor& f, const Tensor& w_post, const Tensor& w, const Tensor& mid,
                   const Tensor& y, const Tensor& rstd, const Tensor& rstd_post, NormSpec spec);

}  // namespace toroid::op
