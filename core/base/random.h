// Counter-based random numbers: Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// 2011). A number depends on (seed, purpose, name, step) and on the global index of its element, never on who
// draws it.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace toroid {

struct RandomKey {
  uint32_t low = 0, high = 0;  // Philox key
  uint64_t step = 0;           // upper half of the counter
};

enum class Purpose : uint32_t { initialise = 1, round = 2, sample = 3, shuffle = 4, synthetic = 5 };

// FNV-1a over the bytes of `name`, so that a key is the same on every machine.
uint64_t hash_name(std::string_view name);

RandomKey random_key(uint64_t seed, Purpose purpose, std::string_view name, uint64_t step = 0);

// Four independent 32-bit words for block `index`.
std::array<uint32_t, 4> philox(const RandomKey& key, uint64_t index);

// Uniform in [0, 1) with 24 bits, for element `index` (a block serves four consecutive elements).
float uniform(const RandomKey& key, uint64_t index);

// Standard normal for element `index`: Box-Muller on the pair of words that the element shares with its
// neighbour.
float normal(const RandomKey& key, uint64_t index);

// A keyed permutation of [0, n): a Feistel network over the next even power of two, cycle-walked back into
// range.
class Permutation {
 public:
  Permutation(const RandomKey& key, uint64_t n);
  uint64_t operator()(uint64_t i) const;
  uint64_t size() const { return n_; }

 private:
  RandomKey key_;
  uint64_t n_;
  unsigned half_bits_;
};

}  // namespace toroid
