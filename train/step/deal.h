// Who takes which of a step's sequences: they are dealt pod, then microbatch, then data rank, each a run of
// consecutive ones. All that the step program knows of a batch's size is its rank's deal.
#pragma once

#include <cstdint>

#include "core/comm/communicator.h"

namespace toroid::train {

// One rank's part of a step. What a batch lacks of the sequences that are dealt is masked.
struct Deal {
  // Microbatch i takes `sequences` of the step's, from first + i * stride on.
  int64_t first = 0, stride = 0, microbatches = 0, sequences = 0;
  // What its pod takes: consecutive ones.
  int64_t pod_first = 0, pod_sequences = 0;
};

class Dealer {
 public:
  // `sequences`: of a microbatch of one replica. In deterministic mode all that are dealt are the leaves of a
  // binary tree, so their number is a power of two.
  Dealer(Place pod, Place data, int64_t sequences, bool deterministic)
      : pod_(pod), data_(data), sequences_(sequences), deterministic_(deterministic) {}

  int64_t replicas() const { return int64_t{pod_.size} * data_.size; }
  // How many each replica runs in a step of `global_sequences`.
  int64_t microbatches(int64_t global_sequences) const;
  Deal deal(int64_t global_sequences) const;
  // One microbatch alone, dealt to the replicas in order.
  Deal deal_once() const;

 private:
  Place pod_, data_;
  int64_t sequences_;
  bool deterministic_;
};

}  // namespace toroid::train
