#include "train/model_flops.h"

#include <algorithm>

namespace toroid::train {

double model_flops_per_step(const DecoderConfig& config, int64_t sequences, int64_t tokens) {
  const ParameterCount count = count_parameters(config);
  const auto all_tokens = static_cast<double>(sequences * tokens);
  // An untied table is read by row and costs no product.
  const double parameters = static_cast<double>(count.other + (config.tied_head ? count.embedding : 0));
  double attention = 0;
  for (const bool local : config.local) {
    const double t = static_cast<double>(tokens);
    const double w = local ? static_cast<double>(std::min(config.window, tokens)) : t;
    const double pairs = w * t - w * w / 2;  // sum over queries of min(position, window)
    attention +=
        12 * static_cast<double>(config.heads * config.head_dim) * pairs * static_cast<double>(sequences);
  }
  return 6 * parameters * all_tokens + attention;
}

}  // namespace toroid::train
