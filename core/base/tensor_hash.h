// The additive hash of a tensor: the sum over its elements of mix(global element index, bits), modulo 2^64.
// Slices of a tensor add up to its hash in any order and on any layout. Plain arithmetic, so that device code
// can use it too.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace toroid {

// One multiplication each spreads index and bits; the finaliser is Stafford's "Mix13" of splitmix64.
constexpr uint64_t hash_mix(uint64_t index, uint32_t bits) {
  uint64_t x = (index + 1) * 0x9e3779b97f4a7c15u ^ (uint64_t{bits} + 0x632be59bu) * 0xc2b2ae3d27d4eb4fu;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Elements [first, first + values.size()) of a tensor.
constexpr uint64_t tensor_hash(std::span<const float> values, uint64_t first) {
  uint64_t sum = 0;
  for (size_t i = 0; i < values.size(); ++i) sum += hash_mix(first + i, std::bit_cast<uint32_t>(values[i]));
  return sum;
}

// The same for elements of 1, 2, 4 or 8 bytes given as bytes, little-endian; 8-byte elements mix their two
// halves.
uint64_t tensor_hash(std::span<const std::byte> bytes, int64_t element_bytes, uint64_t first);

}  // namespace toroid
