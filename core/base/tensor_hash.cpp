#include "core/base/tensor_hash.h"

#include <cstring>

#include "core/base/error.h"

namespace toroid {
namespace {

template <typename Element>
[[gnu::always_inline]] inline uint64_t plain_sum(const std::byte* bytes, size_t elements, uint64_t first) {
  uint64_t total = 0;
  for (size_t i = 0; i < elements; ++i) {
    Element bits;
    std::memcpy(&bits, bytes + i * sizeof(Element), sizeof(Element));
    if constexpr (sizeof(Element) == 8) {
      total += hash_mix(2 * (first + i), static_cast<uint32_t>(bits));
      total += hash_mix(2 * (first + i) + 1, static_cast<uint32_t>(bits >> 32));
    } else {
      total += hash_mix(first + i, bits);
    }
  }
  return total;
}

#if defined(__x86_64__)
// The same loop where the compiler may multiply vectors of 64-bit numbers: some four times as fast, which is
// what a checkpoint's bytes wait for.
template <typename Element>
__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw"))) uint64_t wide_sum(const std::byte* bytes,
                                                                                size_t elements,
                                                                                uint64_t first) {
  return plain_sum<Element>(bytes, elements, first);
}

bool has_wide_products() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
  return has;
}
#endif

template <typename Element>
uint64_t sum(std::span<const std::byte> bytes, uint64_t first) {
  const size_t elements = bytes.size() / sizeof(Element);
#if defined(__x86_64__)
  if (has_wide_products()) return wide_sum<Element>(bytes.data(), elements, first);
#endif
  return plain_sum<Element>(bytes.data(), elements, first);
}

}  // namespace

uint64_t tensor_hash(std::span<const std::byte> bytes, int64_t element_bytes, uint64_t first) {
  require(element_bytes > 0 && bytes.size() % static_cast<size_t>(element_bytes) == 0,
          "bytes hold whole elements");
  switch (element_bytes) {
    case 1:
      return sum<uint8_t>(bytes, first);
    case 2:
      return sum<uint16_t>(bytes, first);
    case 4:
      return sum<uint32_t>(bytes, first);
    case 8:
      return sum<uint64_t>(bytes, first);
    default:
      throw InternalError("elements of " + std::to_string(element_bytes) + " bytes cannot be hashed");
  }
}

}  // namespace toroid
