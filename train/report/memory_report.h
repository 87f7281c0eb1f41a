// The memory of a rank as the dry run predicts it, beside what the device had handed out at its peak.
#pragma once

#include <iosfwd>
#include <map>
#include <string>
#include <vector>

#include "core/device/device.h"
#include "parallel/comm/world.h"

namespace toroid::train {

// The bytes of one rank.
struct MemoryUse {
  double predicted = 0, used = 0;
};

// What every rank predicts and used, by rank; blocks.
std::vector<MemoryUse> exchange_memory(World& world, const Statistics& predicted, const Statistics& used);

// A table of this rank's holders, and a line for the rank that used the most.
void print_memory(std::ostream& out, const Statistics& predicted, const Statistics& used,
                  const std::vector<MemoryUse>& ranks, int rank);

// "activations 6.95 GB, gathered weights 2.02 GB, gradients 1.36 GB"
std::string largest_holders(const std::map<std::string, int64_t>& by_holder);

}  // namespace toroid::train
