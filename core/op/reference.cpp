#include "core/op/reference.h"

#include <string>

#include "core/base/error.h"

namespace toroid::op {
namespace {

// Calls visit(i, address) with the running number and the address of each element.
template <class Visit>
void for_each_element(const Tensor& t, Visit visit) {
  std::byte* const data = t.data();
  const int64_t rows = t.rows(), columns = t.columns(), size = bytes_of(t.type);
  for (int64_t r = 0, i = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c, ++i) visit(i, data + (r * t.row_stride + c) * size);
  }
}

double load_element(DType type, const std::byte* at) {
  switch (type) {
    case DType::f64:
      return *reinterpret_cast<const double*>(at);
    case DType::f32:
      return *reinterpret_cast<const float*>(at);
    case DType::bf16:
      return from_bf16(*reinterpret_cast<const uint16_t*>(at));
    default:
      throw InternalError("a reference kernel loads floats, not " + std::string(name_of(type)));
  }
}

}  // namespace

std::vector<double> load(const Tensor& t) {
  if (!t) return {};
  std::vector<double> values(static_cast<size_t>(t.elements()));
  for_each_element(
      t, [&](int64_t i, const std::byte* at) { values[static_cast<size_t>(i)] = load_element(t.type, at); });
  return values;
}

std::vector<int64_t> load_integers(const Tensor& t) {
  require(t.type == DType::i32 || t.type == DType::i64, "a reference kernel's integers are i32 or i64");
  std::vector<int64_t> values(static_cast<size_t>(t.elements()));
  for_each_element(t, [&](int64_t i, const std::byte* at) {
    values[static_cast<size_t>(i)] =
        t.type == DType::i32 ? *reinterpret_cast<const int32_t*>(at) : *reinterpret_cast<const int64_t*>(at);
  });
  return values;
}

void store(const Tensor& t, std::span<const double> values) {
  require(static_cast<int64_t>(values.size()) == t.elements(), "a reference kernel stores every element");
  for_each_element(t, [&](int64_t i, std::byte* at) {
    const double value = values[static_cast<size_t>(i)];
    switch (t.type) {
      case DType::f64:
        *reinterpret_cast<double*>(at) = value;
        break;
      case DType::f32:
        *reinterpret_cast<float*>(at) = static_cast<float>(value);
        break;
      case DType::bf16:
        *reinterpret_cast<uint16_t*>(at) = to_bf16(static_cast<float>(value));
        break;
      default:
        throw InternalError("a reference kernel stores floats, not " + t.text());
    }
  });
}

double rounded(DType type, double value) {
  if (type == DType::f64) return value;
  const auto single = static_cast<float>(value);
  return type == DType::bf16 ? from_bf16(to_bf16(single)) : single;
}

}  // namespace toroid::op
