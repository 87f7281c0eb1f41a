#include "core/base/tensor_hash.h"

#include <cstring>

#include "core/base/error.h"

namespace toroid {
namespace {

// Inlined into the functions below, each of which the compiler makes vectors of in its own instruction set.
template <typename Element>
[[gnu::always_inline]] inline uint64_t sum(std::span<const std::byte> bytes, uint64_t first) {
  const size_t elements = bytes.size() / sizeof(Element);
  uint64_t total = 0;
  for (size_t i = 0; i < elements; ++i) {
    Element bits;
    std::memcpy(&bits, bytes.data() + i * sizeof(Element), sizeof(Element));
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
__attribute__((target("avx512f,avx512dq"))) uint64_t sum_of_words_512(std::span<const std::byte> bytes,
                                                                      uint64_t first) {
  return sum<uint32_t>(bytes, first);
}

__attribute__((target("avx2"))) uint64_t sum_of_words_256(std::span<const std::byte> bytes, uint64_t first) {
  return sum<uint32_t>(bytes, first);
}
#endif

// Of elements of 4 bytes, which nearly all state is.
uint64_t sum_of_words(std::span<const std::byte> bytes, uint64_t first) {
#if defined(__x86_64__)
  static const bool wide = __builtin_cpu_supports("avx512dq") != 0;
  static const bool half = __builtin_cpu_supports("avx2") != 0;
  if (wide) return sum_of_words_512(bytes, first);
  if (half) return sum_of_words_256(bytes, first);
#endif
  return sum<uint32_t>(bytes, first);
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
      return sum_of_words(bytes, first);
    case 8:
      return sum<uint64_t>(bytes, first);
    default:
      throw InternalError("elements of " + std::to_string(element_bytes) + " bytes cannot be hashed");
  }
}

}  // namespace toroid
