#include "data/dedup/dedup.h"

#include <xxhash.h>

#include "core/base/text.h"

namespace toroid {

ContentHash content_hash(std::string_view text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {hash.low64, hash.high64};
}

std::string hex(const ContentHash& hash) {
  return hex(hash.high) + hex(hash.low);
}

}  // namespace toroid
