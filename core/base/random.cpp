#include "core/base/random.h"

#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace toroid {

uint64_t hash_name(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const unsigned char c : name) hash = (hash ^ c) * 0x100000001b3u;
  return hash;
}

RandomKey random_key(uint64_t seed, Purpose purpose, std::string_view name, uint64_t step) {
  const RandomKey mixer{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32), hash_name(name)};
  const auto words = philox(mixer, static_cast<uint64_t>(purpose));
  return {words[0], words[1], step};
}

std::array<uint32_t, 4> philox(const RandomKey& key, uint64_t index) {
  uint32_t k0 = key.low, k1 = key.high;
  std::array<uint32_t, 4> c{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                            static_cast<uint32_t>(key.step), static_cast<uint32_t>(key.step >> 32)};
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

float uniform(const RandomKey& key, uint64_t index) {
  return static_cast<float>(philox(key, index / 4)[index % 4] >> 8) * 0x1p-24f;
}

float normal(const RandomKey& key, uint64_t index) {
  const auto words = philox(key, index / 4);
  const size_t pair = (index % 4) / 2 * 2;
  const double u = (static_cast<double>(words[pair]) + 1.0) * 0x1p-32;  // (0, 1]: the logarithm is finite
  const double angle = 2.0 * std::numbers::pi * static_cast<double>(words[pair + 1]) * 0x1p-32;
  const double radius = std::sqrt(-2.0 * std::log(u));
  return static_cast<float>(radius * (index % 2 == 0 ? std::cos(angle) : std::sin(angle)));
}

Permutation::Permutation(const RandomKey& key, uint64_t n) : key_(key), n_(n), half_bits_(1) {
  require(n > 0, "a permutation has at least one element");
  while (half_bits_ < 32 && (uint64_t{1} << (2 * half_bits_)) < n) ++half_bits_;
}

uint64_t Permutation::operator()(uint64_t i) const {
  require(i < n_, "index < size of the permutation");
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {  // the network permutes [0, 4^half_bits); walk the cycle until it comes back into [0, n)
    uint64_t left = i >> half_bits_, right = i & mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const auto words = philox(key_, (round << 48) ^ right);
      const uint64_t next = left ^ ((uint64_t{words[0]} | uint64_t{words[1]} << 32) & mask);
      left = right;
      right = next;
    }
    i = left << half_bits_ | right;
  } while (i >= n_);
  return i;
}

}  // namespace toroid
