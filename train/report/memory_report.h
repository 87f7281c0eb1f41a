// The memory of a rank as the dry run predicts it, beside what the device had handed out at its peak.
#pragma once

#include <iosfwd>
#include <vector>

#include "core/comm/communicator.h"

namespace toroid::train {

// The bytes of one rank.
struct MemoryUse {
  double predicted = 0, used = 0;
};

// What every rank predicts and used, by rank; blocks.
std::vector<MemoryUse> exchange_memory(Device& device, Communicator& all, const Statistics& predicted,
                                       const Statistics& used);

// A table of this rank's holders, and a line for the rank that used the most.
void print_memory(std::ostream& out, const Statistics& predicted, const Statistics& used,
                  const std::vector<MemoryUse>& ranks, int rank);

}  // namespace toroid::train
