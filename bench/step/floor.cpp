#include "bench/step/floor.h"

#include <algorithm>

#include "core/device/cpu/bandwidth.h"
#include "train/machine/best_of.h"
#include "train/machine/product_rate.h"

namespace toroid::train {
namespace {

constexpr int kRounds = 3, kRepetitions = 7;
constexpr int64_t kHeadRows =
    1024;  // rows at which the head's products are timed; logits of more do not fit a cache
constexpr int64_t kAttentionBlock = 512;

struct Matrix {
  const char* name;
  int64_t n, k, count;
};

// The best rounds of one matrix's products.
struct Rates {
  BestOf forward, input_gradient, weight_gradient;
  void add(const ProductRates& round) {
    forward.add(round.forward);
    input_gradient.add(round.input_gradient);
    weight_gradient.add(round.weight_gradient);
  }
  double spread() const {
    return std::max({forward.spread(), input_gradient.spread(), weight_gradient.spread()});
  }
};

}  // namespace

double Floor::seconds() const {
  double sum = 0;
  for (const FloorTerm& term : terms) sum += term.seconds();
  return sum;
}

Floor measure_floor(Device& device, int threads, const DecoderConfig& c, const StepOptions& options) {
  Floor floor;
  const int64_t tokens = options.global_sequences * options.tokens_per_sequence;
  const int64_t rows = std::min(tokens, options.sequences_per_replica * options.tokens_per_sequence);
  const std::vector<Matrix> matrices{{"qkv", c.qkv_columns(), c.d_model, c.layers},
                                     {"attention output", c.d_model, c.heads * c.head_dim, c.layers},
                                     {"mlp in", c.pre_columns(), c.d_model, c.layers},
                                     {"mlp out", c.d_model, c.ffn, c.layers},
                                     {"head", c.vocab, c.d_model, 1}};
  // A disturbance of some seconds then touches one round of each rate, not all rounds of one.
  std::vector<Rates> all(matrices.size());
  BestOf bandwidth, attention;
  for (int round = 0; round < kRounds; ++round) {
    bandwidth.add(measure_triad(threads, int64_t{64} << 20, kRepetitions));
    const auto measure = [&](int64_t m, int64_t n, int64_t k) {
      return measure_products(device, m, n, k, options.compute, kRepetitions);
    };
    for (size_t i = 0; i < matrices.size(); ++i) {
      const int64_t m = matrices[i].n == c.vocab ? std::min(rows, kHeadRows) : rows;
      all[i].add(measure(m, matrices[i].n, matrices[i].k));
    }
    const ProductRates scores = measure(rows, kAttentionBlock, c.head_dim),
                       values = measure(rows, c.head_dim, kAttentionBlock);
    attention.add(std::max({scores.forward, scores.input_gradient, values.forward, values.input_gradient}));
  }
  floor.bandwidth = bandwidth.best();
  floor.spread = std::max(bandwidth.spread(), attention.spread());
  for (size_t i = 0; i < matrices.size(); ++i) {
    const Matrix& matrix = matrices[i];
    const Rates& rates = all[i];
    const double flops = 2.0 * static_cast<double>(tokens) * static_cast<double>(matrix.n) *
                         static_cast<double>(matrix.k) * static_cast<double>(matrix.count);
    floor.terms.push_back({std::string(matrix.name) + ", forward", flops, rates.forward.best()});
    floor.terms.push_back(
        {std::string(matrix.name) + ", input gradient", flops, rates.input_gradient.best()});
    floor.terms.push_back(
        {std::string(matrix.name) + ", weight gradient", flops, rates.weight_gradient.best()});
    floor.best_flops = std::max(
        {floor.best_flops, rates.forward.best(), rates.input_gradient.best(), rates.weight_gradient.best()});
    floor.spread = std::max(floor.spread, rates.spread());
  }
  double pairs = 0;  // query-key pairs of all layers and sequences
  for (const bool local : c.local) {
    const double t = static_cast<double>(options.tokens_per_sequence);
    const double w = local ? std::min(t, static_cast<double>(c.window)) : t;
    pairs += (w * t - w * w / 2) * static_cast<double>(options.global_sequences);
  }
  // Two products forward and five backward.
  floor.terms.push_back(
      {"attention", 7 * 2 * pairs * static_cast<double>(c.heads * c.head_dim), attention.best()});

  const ParameterCount count = count_parameters(c);
  const auto parameters = static_cast<double>(count.embedding + count.other);
  const auto element = static_cast<double>(bytes_of(options.compute));
  floor.terms.push_back({"bytes of the update (28 a parameter)", 28 * parameters, floor.bandwidth});
  floor.terms.push_back({"bytes of packing (8 a parameter)", 8 * parameters, floor.bandwidth});
  floor.terms.push_back({"bytes of the gradient (8 a parameter)", 8 * parameters, floor.bandwidth});
  const int64_t saved = 2 * c.d_model + c.qkv_columns() + c.heads * c.head_dim + c.pre_columns() + c.ffn;
  floor.terms.push_back({"bytes of saved activations",
                         2 * element * static_cast<double>(saved) * static_cast<double>(tokens * c.layers),
                         floor.bandwidth});
  return floor;
}

}  // namespace toroid::train
