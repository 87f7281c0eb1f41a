#include "data/mixture/mixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "core/base/error.h"

namespace toroid {
namespace {

constexpr int64_t kPeriod = int64_t{1} << 20;
constexpr size_t kSources = 4096;

// Multiples of 1 / kPeriod by largest remainder, none that is wanted below one.
std::vector<int64_t> round_weights(std::span<const double> weights) {
  if (weights.empty()) throw UserError("a mixture needs at least one source");
  if (weights.size() > kSources) {
    throw UserError("a mixture has at most " + std::to_string(kSources) + " sources, but " +
                    std::to_string(weights.size()) + " are given");
  }
  double sum = 0;
  for (const double weight : weights) {
    if (!std::isfinite(weight) || weight < 0) {
      throw UserError("a source's weight is " + std::to_string(weight) +
                      ", but weights are finite and not negative");
    }
    sum += weight;
  }
  if (!std::isfinite(sum) || sum <= 0) throw UserError("the sources' weights add up to nothing");

  std::vector<int64_t> counts(weights.size());
  std::vector<double> remainders(weights.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    const double exact = weights[i] / sum * static_cast<double>(kPeriod);
    counts[i] = static_cast<int64_t>(exact);
    remainders[i] = exact - static_cast<double>(counts[i]);
    if (weights[i] > 0 && counts[i] == 0) {
      counts[i] = 1;
      remainders[i] = 0;
    }
  }
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  int64_t missing = kPeriod - std::accumulate(counts.begin(), counts.end(), int64_t{0});
  for (size_t k = 0; missing > 0; k = (k + 1) % order.size()) {
    if (weights[order[k]] == 0) continue;
    ++counts[order[k]];
    --missing;
  }
  while (missing < 0) {  // too many were raised to one
    --*std::max_element(counts.begin(), counts.end());
    ++missing;
  }
  return counts;
}

}  // namespace

Mixture::Mixture(std::span<const double> weights) : per_period_(round_weights(weights)) {
  const int64_t divisor = std::accumulate(per_period_.begin(), per_period_.end(), int64_t{0},
                                          [](int64_t a, int64_t b) { return std::gcd(a, b); });
  for (int64_t& count : per_period_) count /= divisor;
  const int64_t period = kPeriod / divisor;
  source_.resize(static_cast<size_t>(period));
  ordinal_.resize(static_cast<size_t>(period));

  const auto present = std::count_if(per_period_.begin(), per_period_.end(), [](int64_t n) { return n > 0; });
  const int64_t scale = std::max<int64_t>(2 * present - 2, 1);  // 1 / scale: how far behind a source is due
  std::vector<int64_t> taken(per_period_.size());
  for (int64_t j = 1; j <= period; ++j) {
    // In units of 1 / (period * scale) of a sequence: `behind` is weight * j - taken, and a due source's
    // deadline is the time until it would be 1 - 1/scale behind.
    int best = -1;
    int64_t best_slack = 0;
    for (size_t i = 0; i < per_period_.size(); ++i) {
      const int64_t n = per_period_[i];
      if (n == 0) continue;
      const int64_t behind = (n * j - taken[i] * period) * scale;
      if (present > 1 && behind < period) continue;
      const int64_t slack = period * (scale - 1) - behind;
      if (best < 0 || slack * per_period_[static_cast<size_t>(best)] < best_slack * n) {
        best = static_cast<int>(i);
        best_slack = slack;
      }
    }
    require(best >= 0, "a source is due at every sequence");
    source_[static_cast<size_t>(j - 1)] = static_cast<uint16_t>(best);
    ordinal_[static_cast<size_t>(j - 1)] = static_cast<uint32_t>(taken[static_cast<size_t>(best)]++);
  }
}

Mixture::Place Mixture::place(int64_t global_index) const {
  require(global_index >= 0, "a global index is not negative");
  const auto period = static_cast<int64_t>(source_.size());
  const auto at = static_cast<size_t>(global_index % period);
  const int source = source_[at];
  return {source, global_index / period * per_period_[static_cast<size_t>(source)] + ordinal_[at]};
}

double Mixture::weight(int source) const {
  return static_cast<double>(per_period_[static_cast<size_t>(source)]) / static_cast<double>(source_.size());
}

}  // namespace toroid
