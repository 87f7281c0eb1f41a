// Numbers as little-endian bytes.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace toroid {

template <std::unsigned_integral T>
void append(std::string& bytes, T value) {
  for (size_t i = 0; i < sizeof value; ++i) bytes += static_cast<char>((uint64_t{value} >> (8 * i)) & 0xff);
}

// The number that the first bytes are; there are enough of them.
template <std::unsigned_integral T>
T load(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return static_cast<T>(value);
}

}  // namespace toroid
