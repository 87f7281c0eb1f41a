// Which GPU of its host a rank takes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "parallel/comm/world.h"

namespace toroid::train {

// What a rank sees of its host's GPUs.
struct SeenGpus {
  int host = 0;                    // the first rank on it
  std::vector<std::string> buses;  // by which GPUs are told apart, in the order in which the rank sees them
};

// Of rank `rank`, as it counts those that it sees, from what all ranks see: the one at its place among the
// ranks of its host; where its launcher shows it one alone, that one. UserError where ranks outnumber the
// GPUs, or two of them would share one: the same on every rank.
int gpu_of_rank(std::span<const SeenGpus> ranks, size_t rank);

// This rank's, which it settles with all others. UserError where it sees none, or its driver is too old.
int choose_gpu(World& world);

// UserError, the same on every rank, where they do not all go by the same kernels: `mine` is this rank's
// cuda::AttentionLibrary::text. A step would be as slow as the slowest, and a layout have bits of its own.
void require_same_attention(World& world, const std::string& mine);

}  // namespace toroid::train
