// What the builders of core/op share: one sentence for a call that does not fit, the traffic of a call, and
// the parts of a fused one.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>

#include "core/op/op.h"

namespace toroid::op {

struct Named {
  std::string_view name;
  const Tensor& tensor;
};

// Throws InternalError "matmul: x bf16[4, 8] and w bf16[16, 9] must satisfy: <relation>".
[[noreturn]] void fail(std::string_view op, std::string_view relation, std::initializer_list<Named> tensors);

inline void check(bool holds, std::string_view op, std::string_view relation,
                  std::initializer_list<Named> tensors) {
  if (!holds) fail(op, relation, tensors);
}

inline bool is_float(const Tensor& t) {
  return t.type == DType::f64 || t.type == DType::f32 || t.type == DType::bf16;
}

// Statistics, losses and weight gradients are f32, or f64 where everything is.
inline bool is_exact(const Tensor& t, DType compute) {
  return t.type == DType::f32 || (t.type == DType::f64 && compute == DType::f64);
}

// A weight's gradient: exact, or of the compute type, which kernels of devices without numbers alone serve.
inline bool is_gradient(const Tensor& t, DType compute) {
  return is_exact(t, compute) || t.type == compute;
}

inline bool is_matrix(const Tensor& t) {
  return t.shape.rank() == 2 && t.layout == Layout::plain;
}
inline bool is_dense_matrix(const Tensor& t) {
  return is_matrix(t) && t.dense();
}
inline bool is_vector(const Tensor& t, int64_t elements) {
  return t.shape == Shape{elements} && t.layout == Layout::plain;
}

inline void check_f32(std::string_view op, const Tensor& t, std::string_view name, int64_t elements) {
  check(t.type == DType::f32 && is_vector(t, elements) && t.dense(), op,
        "f32[" + std::to_string(elements) + "]", {{name, t}});
}

// Bytes of the operands, each read or written once as its access says.
Cost traffic(const Call& call);

// Issues a part of an expansion: in the tiles and the phase of the call that it stands for.
void issue_part(Issuer& issuer, const Call& whole, Call part);

}  // namespace toroid::op
