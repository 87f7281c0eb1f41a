#include "train/checkpoint/elements.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/tensor/dtype.h"

namespace toroid {
namespace {

constexpr int64_t kRead = int64_t{1} << 18;  // elements

}  // namespace

bool is_number(ElementType type) {
  return type == ElementType::f32 || type == ElementType::bf16;
}

void read_elements(CheckpointReader& reader, const CheckpointTensor& tensor, int64_t first,
                   std::span<float> out) {
  if (!is_number(tensor.type)) {
    throw UserError(in_quotes(tensor.name) + " (" + tensor.part + ") is " +
                    std::string(element_type_name(tensor.type)) +
                    ", but only F32 and BF16 are read as numbers");
  }
  if (tensor.type == ElementType::f32) {
    reader.read(tensor.name, tensor.part, first, std::as_writable_bytes(out));
    return;
  }
  std::vector<uint16_t> bits(out.size());
  reader.read(tensor.name, tensor.part, first, std::as_writable_bytes(std::span(bits)));
  std::transform(bits.begin(), bits.end(), out.begin(), [](uint16_t value) { return from_bf16(value); });
}

void write_elements(std::span<const float> values, ElementType type, std::span<std::byte> out) {
  require(is_number(type) && out.size() == values.size() * static_cast<size_t>(element_bytes(type)),
          "elements fit their bytes");
  if (type == ElementType::f32) {
    std::memcpy(out.data(), values.data(), out.size());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = to_bf16(values[i]);
    std::memcpy(out.data() + 2 * i, &bits, 2);
  }
}

void for_each_piece(CheckpointReader& reader, const CheckpointTensor& tensor,
                    const std::function<void(int64_t first, std::span<const float>)>& piece) {
  std::vector<float> buffer(static_cast<size_t>(std::min(tensor.elements, kRead)));
  for (int64_t first = 0; first < tensor.elements; first += kRead) {
    const auto values =
        std::span(buffer).first(static_cast<size_t>(std::min(kRead, tensor.elements - first)));
    read_elements(reader, tensor, first, values);
    piece(first, values);
  }
}

ElementStatistics statistics_of(CheckpointReader& reader, const CheckpointTensor& tensor) {
  ElementStatistics out;
  out.elements = tensor.elements;
  double mean = 0, spread = 0, squares = 0;  // Welford's, piece by piece
  int64_t finite = 0;
  for_each_piece(reader, tensor, [&](int64_t, std::span<const float> values) {
    double sum = 0, square = 0;
    int64_t count = 0;
    for (const float value : values) {
      if (value == 0) ++out.zeros;
      if (!std::isfinite(value)) continue;
      const double x = static_cast<double>(value);
      if (finite + count == 0) out.least = out.most = x;
      out.least = std::min(out.least, x);
      out.most = std::max(out.most, x);
      sum += x;
      square += x * x;
      ++count;
    }
    out.not_finite += static_cast<int64_t>(values.size()) - count;
    if (count == 0) return;
    const double own = sum / static_cast<double>(count);
    double own_spread = 0;
    for (const float value : values) {
      const double away = static_cast<double>(value) - own;
      if (std::isfinite(value)) own_spread += away * away;
    }
    const auto before = static_cast<double>(finite), now = static_cast<double>(count);
    const double delta = own - mean;
    mean += delta * now / (before + now);
    spread += own_spread + delta * delta * before * now / (before + now);
    squares += square;
    finite += count;
  });
  if (finite == 0) return out;
  out.mean = mean;
  out.deviation = std::sqrt(spread / static_cast<double>(finite));
  out.rms = std::sqrt(squares / static_cast<double>(finite));
  return out;
}

}  // namespace toroid
