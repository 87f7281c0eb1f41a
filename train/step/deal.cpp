#include "train/step/deal.h"

#include <algorithm>
#include <bit>

#include "core/base/round_up.h"

namespace toroid::train {

int64_t Dealer::microbatches(int64_t global_sequences) const {
  const int64_t round = replicas() * sequences_;
  if (!deterministic_) return divide_up(global_sequences, round);
  const auto leaves = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(global_sequences)));
  return std::max<int64_t>(1, leaves / round);
}

Deal Dealer::deal(int64_t global_sequences) const {
  Deal out;
  out.microbatches = microbatches(global_sequences);
  out.sequences = sequences_;
  out.stride = data_.size * sequences_;
  out.pod_sequences = out.microbatches * out.stride;
  out.pod_first = pod_.rank * out.pod_sequences;
  out.first = out.pod_first + data_.rank * sequences_;
  return out;
}

Deal Dealer::deal_once() const {
  return deal(replicas() * sequences_);
}

}  // namespace toroid::train
