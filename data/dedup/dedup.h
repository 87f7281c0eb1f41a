// Exact duplicates: documents whose texts are equal byte for byte, by a 128-bit hash of the text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>

namespace toroid {

// XXH3 with 128 bits. Among 10^12 documents two different texts share one with a probability below 2e-15.
struct ContentHash {
  uint64_t low = 0, high = 0;
  bool operator==(const ContentHash&) const = default;
};

ContentHash content_hash(std::string_view text);

// 32 hexadecimal digits, the high half first.
std::string hex(const ContentHash& hash);

class ExactDedup {
 public:
  // True the first time that a hash comes.
  bool insert(const ContentHash& hash) { return seen_.insert(hash).second; }
  int64_t size() const { return static_cast<int64_t>(seen_.size()); }

 private:
  struct Bucket {
    size_t operator()(const ContentHash& hash) const { return static_cast<size_t>(hash.low); }
  };
  std::unordered_set<ContentHash, Bucket> seen_;
};

}  // namespace toroid
