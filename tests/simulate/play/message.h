// A message between two chips of a pod, over all the links that shorten the way: no step sends one alone, but
// published answers do.
#pragma once

#include <vector>

#include "simulate/play/network.h"

namespace toroid::sim {

inline Flow message(const Network& network, const Chip& chip, int from, int to, double bytes) {
  Flow out;
  int dimensions = 0, length = 0;
  for (const int count : network.mesh().hops(from, to)) {
    dimensions += count > 0 ? 1 : 0;
    length += count;
  }
  if (dimensions == 0) return out;
  out.latency = length * chip.topology.hop_latency;
  out.transfer = Seconds(bytes / (dimensions * network.bytes_per_s(0)));
  return out;
}

}  // namespace toroid::sim
