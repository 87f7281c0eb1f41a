// Chips that are not all alike: each one's speed, stragglers and faulty links, drawn from a seed or named.
#pragma once

#include <cstdint>
#include <vector>

#include "core/device/sim/chip.h"
#include "parallel/mesh/mesh.h"
#include "simulate/play/player.h"

namespace toroid::train {

struct Variation {
  struct Straggler {
    int64_t rank = 0;
    double factor = 1;  // how much longer its operators take
  };
  struct LinkFault {
    int64_t dimension = 0;  // of the mesh's torus
    double share = 1;  // of its bandwidth that a link of it still has; 0: it is gone, and with it the wrap
  };
  double jitter = 0;  // relative standard deviation of the chips' speed
  uint64_t seed = 1;
  std::vector<Straggler> stragglers;
  std::vector<LinkFault> faults;

  bool chips_differ() const { return jitter > 0 || !stragglers.empty(); }
  bool any() const { return chips_differ() || !faults.empty(); }
};

// UserError with what is out of its range.
void check(const Variation& variation, const mesh::Mesh& mesh);

// Chips that differ are played one by one, and no more of them.
inline constexpr int64_t kMostPlayedChips = 4096;

// How much longer a chip's operators take.
double slowness(const Variation& variation, int64_t rank);

// The places of a chip's groups on the axes.
sim::PlayedChip placed(const mesh::Mesh& mesh, int rank);

}  // namespace toroid::train
