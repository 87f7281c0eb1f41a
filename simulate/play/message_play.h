// The moves of all ranks as messages on the links of their torus, where ranks are not all alike.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "parallel/schedule/links.h"
#include "simulate/play/network.h"

namespace toroid::sim {

struct PlayedMessages {
  double seconds = 0;           // until all ranks are done
  std::vector<double> carried;  // bytes, by schedule::link_index
};

// `plans`: every rank's; `lanes` by schedule::Direction. A message takes the links of its way one after the
// other, each for as long as its bytes take, in the order in which messages come to a link, and is passed on
// from its first byte. A rank begins a round once its own moves of the round before are done: what it sends
// has left it, what it receives is there.
PlayedMessages play_messages(const schedule::GroupShape& shape, const std::vector<schedule::Plan>& plans,
                             double bytes, const std::array<Lane, schedule::kDirections>& lanes);

}  // namespace toroid::sim
