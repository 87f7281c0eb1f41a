#include "train/generate/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/base/error.h"
#include "core/base/random.h"

namespace toroid::train {

void check(const SampleOptions& options) {
  if (!(options.temperature >= 0) || options.temperature > 1000) {
    throw UserError("--temperature is " + std::to_string(options.temperature) +
                    ", but must be at least 0 (greedy) and at most 1000");
  }
  if (options.top_k < 0) {
    throw UserError("--top-k is " + std::to_string(options.top_k) + ", but must be at least 0 (all tokens)");
  }
  if (!(options.top_p > 0 && options.top_p <= 1)) {
    throw UserError("--top-p is " + std::to_string(options.top_p) + ", but must be above 0 and at most 1");
  }
}

int32_t sample(std::span<const float> logits, const SampleOptions& options, uint64_t position) {
  require(!logits.empty(), "a token is sampled from at least one logit");
  const auto likelier = [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  };
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  if (options.temperature == 0) return *std::min_element(order.begin(), order.end(), likelier);

  size_t kept = order.size();
  if (options.top_k > 0) kept = std::min(kept, static_cast<size_t>(options.top_k));
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(), likelier);
  std::vector<double> weights(kept);
  const double highest = logits[static_cast<size_t>(order[0])];
  for (size_t i = 0; i < kept; ++i) {
    weights[i] = std::exp((static_cast<double>(logits[static_cast<size_t>(order[i])]) - highest) /
                          options.temperature);
  }
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  double reached = 0;
  for (size_t i = 0; i < kept; ++i) {
    reached += weights[i];
    if (reached >= options.top_p * total) {
      kept = i + 1;
      total = reached;
      break;
    }
  }
  double draw =
      static_cast<double>(uniform(random_key(options.seed, Purpose::sample, "generate"), position)) * total;
  for (size_t i = 0; i + 1 < kept; ++i) {
    draw -= weights[i];
    if (draw < 0) return order[i];
  }
  return order[kept - 1];
}

}  // namespace toroid::train
