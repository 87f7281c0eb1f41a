#include "parallel/comm/combine.h"

#include <algorithm>

#include "core/base/error.h"

namespace toroid {
namespace {

template <class T>
T sum_of(T a, T b) {
  if constexpr (std::is_integral_v<T>) {
    using U = std::make_unsigned_t<T>;
    return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
  } else {
    return a + b;
  }
}

// A NaN on either side stays.
template <class T>
T max_of(T a, T b) {
  return a < b || b != b ? b : a;
}

template <class T>
void combine_as(Combine how, std::byte* to_bytes, const std::byte* a_bytes, const std::byte* b_bytes,
                int64_t elements) {
  T* const to = reinterpret_cast<T*>(to_bytes);
  const T* const a = reinterpret_cast<const T*>(a_bytes);
  const T* const b = reinterpret_cast<const T*>(b_bytes);
  if (how == Combine::sum) {
    for (int64_t i = 0; i < elements; ++i) to[i] = sum_of(a[i], b[i]);
  } else {
    for (int64_t i = 0; i < elements; ++i) to[i] = max_of(a[i], b[i]);
  }
}

void combine_bf16(Combine how, uint16_t* to, const uint16_t* a, const uint16_t* b, int64_t elements) {
  if (how == Combine::sum) {
    for (int64_t i = 0; i < elements; ++i) to[i] = to_bf16(from_bf16(a[i]) + from_bf16(b[i]));
  } else {
    for (int64_t i = 0; i < elements; ++i) to[i] = to_bf16(max_of(from_bf16(a[i]), from_bf16(b[i])));
  }
}

}  // namespace

void combine(DType type, Combine how, std::byte* to, const std::byte* a, const std::byte* b,
             int64_t elements) {
  switch (type) {
    case DType::f64:
      return combine_as<double>(how, to, a, b, elements);
    case DType::f32:
      return combine_as<float>(how, to, a, b, elements);
    case DType::bf16:
      return combine_bf16(how, reinterpret_cast<uint16_t*>(to), reinterpret_cast<const uint16_t*>(a),
                          reinterpret_cast<const uint16_t*>(b), elements);
    case DType::i64:
      return combine_as<int64_t>(how, to, a, b, elements);
    case DType::i32:
      return combine_as<int32_t>(how, to, a, b, elements);
    case DType::u8:
      return combine_as<uint8_t>(how, to, a, b, elements);
  }
  throw InternalError("no sum is known for this type");
}

void round_onto_wire(float* values, uint16_t* wire, int64_t elements) {
  for (int64_t i = 0; i < elements; ++i) {
    wire[i] = to_bf16(values[i]);
    values[i] = from_bf16(wire[i]);
  }
}

void combine_from_wire(Combine how, float* to, const uint16_t* wire, int64_t elements) {
  if (how == Combine::sum) {
    for (int64_t i = 0; i < elements; ++i) to[i] += from_bf16(wire[i]);
  } else {
    for (int64_t i = 0; i < elements; ++i) to[i] = max_of(to[i], from_bf16(wire[i]));
  }
}

void take_from_wire(float* to, const uint16_t* wire, int64_t elements) {
  for (int64_t i = 0; i < elements; ++i) to[i] = from_bf16(wire[i]);
}

}  // namespace toroid
