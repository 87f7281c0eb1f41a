#include "data/dedup/dedup.h"

#include <xxhash.h>

namespace toroid {

ContentHash content_hash(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {hash.low64, hash.high64};
}

std::string hex(uint64_t hash) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out(16, '0');
  for (size_t i = 0; i < out.size(); ++i) out[i] = kDigits[(hash >> (60 - 4 * i)) & 15];
  return out;
}

std::string hex(const ContentHash& hash) {
  return hex(hash.high) + hex(hash.low);
}

}  // namespace toroid
