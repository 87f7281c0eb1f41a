// From a tensor's type to a kernel's.
#pragma once

#include <string>
#include <type_traits>

#include "core/base/error.h"
#include "core/device/cuda/numbers.h"
#include "core/op/op.h"

namespace toroid::cuda {

template <class T>
using Type = std::type_identity<T>;

// f(Type<float>()) or f(Type<Bf16>()). UserError for other types: f64 is for reference kernels.
template <class F>
void with_type(const Call& call, DType type, const F& f) {
  if (type == DType::f32) return f(Type<float>());
  if (type == DType::bf16) return f(Type<Bf16>());
  throw UserError("the GPU computes in f32 and bf16, not in " + std::string(name_of(type)) + ": " +
                  describe(call));
}

// The types of x and y.
template <class F>
void with_types(const Call& call, const Tensor& x, const Tensor& y, const F& f) {
  with_type(call, x.type, [&](auto of_x) { with_type(call, y.type, [&](auto of_y) { f(of_x, of_y); }); });
}

template <class T>
T* pointer(const Tensor& t) {
  return t ? t.as<T>() : nullptr;
}

}  // namespace toroid::cuda
