// From logits to a token: greedy, temperature, top-k, top-p (Holtzman et al. 2020), with counter-based random
// numbers.
#pragma once

#include <cstdint>
#include <span>

namespace toroid::train {

struct SampleOptions {
  double temperature = 1;  // 0: greedy
  int64_t top_k = 0;       // 0: all tokens
  double top_p = 1;        // 1: all tokens
  uint64_t seed = 1;
};

// UserError with the relation that fails.
void check(const SampleOptions& options);

// The token that `position` draws from logits[V]. The k most likely tokens are kept first (ties: the lower
// id), then the fewest of them whose probabilities reach top_p.
int32_t sample(std::span<const float> logits, const SampleOptions& options, uint64_t position);

}  // namespace toroid::train
