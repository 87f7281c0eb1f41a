#include "core/device/sim/host.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/base/error.h"

namespace toroid::sim {
namespace {

constexpr size_t kTerms = 4;
constexpr double kSameSize = 1.5;

std::array<double, kTerms> terms_of(const Cost& cost) {
  double products = 0;
  for (const Product& product : cost.products) products += static_cast<double>(product.flops());
  return {1, products, static_cast<double>(cost.vector_flops),
          static_cast<double>(cost.bytes_read + cost.bytes_written)};
}

// The value at `x` between the nearest of the rising `xs`, linear in log x; constant beyond the ends.
template <class At, class Value>
double between(size_t count, double x, const At& at, const Value& value) {
  size_t above = 0;
  while (above < count && at(above) < x) ++above;
  if (above == 0) return value(0);
  if (above == count) return value(count - 1);
  const double low = std::log(at(above - 1)), high = std::log(at(above));
  const double part = high > low ? (std::log(x) - low) / (high - low) : 1;
  return value(above - 1) + part * (value(above) - value(above - 1));
}

// Least squares over the chosen terms of rows that are divided by their times, so that all times are one.
// False where the terms do not tell themselves apart or one would be negative.
bool solve(const std::vector<std::array<double, kTerms>>& rows, const std::vector<size_t>& chosen,
           std::array<double, kTerms>& out, double& squares) {
  const size_t n = chosen.size();
  std::array<std::array<double, kTerms + 1>, kTerms> a{};
  for (const auto& row : rows) {
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) a[i][j] += row[chosen[i]] * row[chosen[j]];
      a[i][n] += row[chosen[i]];
    }
  }
  std::array<double, kTerms> scale{};
  for (size_t i = 0; i < n; ++i) scale[i] = a[i][i];
  for (size_t i = 0; i < n; ++i) {
    if (!(a[i][i] > 1e-9 * scale[i])) return false;
    for (size_t k = 0; k < n; ++k) {
      if (k == i) continue;
      const double factor = a[k][i] / a[i][i];
      for (size_t j = i; j <= n; ++j) a[k][j] -= factor * a[i][j];
    }
  }
  out = {};
  for (size_t i = 0; i < n; ++i) {
    out[chosen[i]] = a[i][n] / a[i][i];
    if (!(out[chosen[i]] >= 0)) return false;
  }
  squares = 0;
  for (const auto& row : rows) {
    double sum = -1;
    for (size_t i = 0; i < kTerms; ++i) sum += out[i] * row[i];
    squares += sum * sum;
  }
  return true;
}

std::vector<OperatorFigure::Rate> rates_of(std::span<const OperatorSample> samples) {
  std::vector<std::pair<double, double>> points;  // bytes, seconds a byte
  for (const OperatorSample& sample : samples) {
    const double bytes = terms_of(sample.cost)[3];
    if (bytes > 0) points.emplace_back(bytes, sample.time.count() / bytes);
  }
  std::sort(points.begin(), points.end());
  std::vector<OperatorFigure::Rate> out;
  for (size_t first = 0; first < points.size();) {
    size_t last = first;
    OperatorFigure::Rate mean;
    for (; last < points.size() && points[last].first <= kSameSize * points[first].first; ++last) {
      mean.bytes += points[last].first;
      mean.s_per_byte += points[last].second;
    }
    const auto count = static_cast<double>(last - first);
    out.push_back({mean.bytes / count, mean.s_per_byte / count});
    first = last;
  }
  return out;
}

// Bytes read and written by all ranks of a group, in arrays (train/machine/collective_bench.h).
double arrays_moved(const std::string& operation, double ranks) {
  if (operation == "all_gather") return 2 * ranks;
  if (operation == "reduce_scatter") return ranks + 1;
  if (operation == "all_reduce" || operation == "barrier") return ranks + 1 + 2 * (ranks - 1);
  return 2 * (ranks - 1);
}

}  // namespace

Seconds OperatorFigure::time(const Cost& cost) const {
  const auto terms = terms_of(cost);
  if (!rates.empty()) {
    const double each = between(
        rates.size(), terms[3], [&](size_t i) { return rates[i].bytes; },
        [&](size_t i) { return rates[i].s_per_byte; });
    return Seconds(s_start + terms[3] * each);
  }
  return Seconds(s_start + s_per_flop * terms[1] + s_per_vector_flop * terms[2] + s_per_byte * terms[3]);
}

OperatorFigure fit(std::span<const OperatorSample> samples) {
  require(!samples.empty(), "a figure is fitted to at least one sample");
  OperatorFigure out;
  const bool products = std::any_of(samples.begin(), samples.end(), [](const OperatorSample& sample) {
    return !sample.cost.products.empty();
  });
  if (!products) {
    out.rates = rates_of(samples);
    return out;
  }
  std::vector<std::array<double, kTerms>> rows;
  for (const OperatorSample& sample : samples) {
    auto row = terms_of(sample.cost);
    for (double& term : row) term /= sample.time.count();
    rows.push_back(row);
  }
  // So few terms that every choice of them can be tried.
  double least = std::numeric_limits<double>::infinity();
  std::array<double, kTerms> best{};
  for (unsigned mask = 1; mask < 1u << kTerms; ++mask) {
    std::vector<size_t> chosen;
    for (size_t i = 0; i < kTerms; ++i) {
      if ((mask >> i & 1) != 0) chosen.push_back(i);
    }
    std::array<double, kTerms> found{};
    double squares = 0;
    if (chosen.size() > samples.size() || !solve(rows, chosen, found, squares)) continue;
    if (squares < 0.999 * least) {
      least = squares;
      best = found;
    }
  }
  out.s_start = best[0];
  out.s_per_flop = best[1];
  out.s_per_vector_flop = best[2];
  out.s_per_byte = best[3];
  return out;
}

double MeasuredMachine::share() const {
  return std::min(1.0 / ranks, static_cast<double>(threads) / cores);
}

Seconds MeasuredMachine::time(std::string_view kind, const Cost& cost) const {
  const auto on = [&](const auto& figures) -> Seconds {
    if (const auto found = figures.find(kind); found != figures.end()) return found->second.time(cost);
    const auto terms = terms_of(cost);
    Seconds products{0};
    if (const auto matmul = figures.find("matmul"); matmul != figures.end())
      products = Seconds(matmul->second.s_per_flop * terms[1]);
    return std::max(products, Seconds(terms[3] / memory_bytes_per_s));
  };
  const Seconds by_all = on(on_all) / share();
  const int busy = std::min(cores, ranks * threads);
  if (busy == cores || on_one.empty()) return by_all;
  // Fewer busy cores are each faster, by what lies between one and all.
  const double part = static_cast<double>(busy - 1) / (cores - 1);
  return part * by_all + (1 - part) * on(on_one) / threads;
}

Seconds MeasuredMachine::collective_time(const std::string& operation, const std::string& method,
                                         int group_ranks, int64_t bytes) const {
  const std::string& timed = operation == "barrier" ? "all_reduce" : operation;
  std::vector<const CollectiveTime*> alike;
  for (const CollectiveTime& one : collectives) {
    if (one.operation == timed && one.method == method && one.ranks == group_ranks) alike.push_back(&one);
  }
  const auto size = static_cast<double>(std::max<int64_t>(1, bytes));
  // All groups of an axis do the same at the same time, on the same memory and cores.
  const double groups = static_cast<double>(ranks) / group_ranks;
  if (alike.empty())
    return Seconds(groups * arrays_moved(operation, group_ranks) * size / memory_bytes_per_s);
  const double crowd = std::max(1.0, groups * std::min(group_ranks, cores) / cores);
  std::sort(alike.begin(), alike.end(),
            [](const CollectiveTime* a, const CollectiveTime* b) { return a->bytes < b->bytes; });
  const CollectiveTime& most = *alike.back();
  if (size > static_cast<double>(most.bytes))
    return Seconds(crowd * most.seconds * size / static_cast<double>(most.bytes));
  // Seconds run smoothly in the logarithms of both.
  return Seconds(crowd *
                 std::exp(between(
                     alike.size(), size, [&](size_t i) { return static_cast<double>(alike[i]->bytes); },
                     [&](size_t i) { return std::log(alike[i]->seconds); })));
}

Seconds MeasuredMachine::lost(Seconds collective) const {
  // The ranks' threads of communication take cores that nobody wants, before they take others'.
  const double free = std::max(0.0, static_cast<double>(cores) / ranks - threads);
  return collective * std::max(0.0, 1 - free);
}

}  // namespace toroid::sim
