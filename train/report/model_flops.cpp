#include "train/report/model_flops.h"

#include <algorithm>

namespace toroid::train {

namespace {

// `pairs(t, w)`: queries and keys that see each other in a sequence of t tokens, with a window of w.
template <class Pairs>
double flops(const DecoderConfig& config, int64_t sequences, int64_t tokens, const Pairs& pairs) {
  const ParameterCount count = count_parameters(config);
  const auto all_tokens = static_cast<double>(sequences * tokens);
  // An untied table is read by row and costs no product.
  const double parameters = static_cast<double>(count.other + (config.tied_head ? count.embedding : 0));
  double attention = 0;
  for (const bool local : config.local) {
    const double t = static_cast<double>(tokens);
    const double w = local ? static_cast<double>(std::min(config.window, tokens)) : t;
    attention += 12 * static_cast<double>(config.heads * config.head_dim) * pairs(t, w) *
                 static_cast<double>(sequences);
  }
  return 6 * parameters * all_tokens + attention;
}

}  // namespace

double model_flops_per_step(const DecoderConfig& config, int64_t sequences, int64_t tokens) {
  // The sum over queries of min(position, window).
  return flops(config, sequences, tokens, [](double t, double w) { return w * t - w * w / 2; });
}

double model_flops_full_attention(const DecoderConfig& config, int64_t sequences, int64_t tokens) {
  return flops(config, sequences, tokens, [](double t, double w) { return w * t; });
}

}  // namespace toroid::train
