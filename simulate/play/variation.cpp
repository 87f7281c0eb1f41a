#include "simulate/play/variation.h"

#include <algorithm>
#include <string>

#include "core/base/error.h"
#include "core/base/random.h"
#include "core/base/range.h"
#include "core/base/text.h"

namespace toroid::train {

void check(const Variation& variation, const mesh::Mesh& mesh) {
  constexpr double kMostJitter = 0.5, kMostSlow = 1e6;
  check_range("--jitter", variation.jitter, 0.0, kMostJitter);
  for (const Variation::Straggler& straggler : variation.stragglers) {
    check_range("--straggler's rank", straggler.rank, int64_t{0}, int64_t{mesh.world_size()} - 1);
    check_range("--straggler's factor", straggler.factor, 1.0, kMostSlow);
  }
  for (const Variation::LinkFault& fault : variation.faults) {
    check_range("--link-fault's dimension", fault.dimension, int64_t{0},
                static_cast<int64_t>(mesh.torus().size()) - 1);
    check_range("--link-fault's share", fault.share, 0.0, 1.0);
  }
  if (variation.chips_differ() && mesh.world_size() > kMostPlayedChips) {
    throw UserError("the mesh has " + with_commas(mesh.world_size()) +
                    " chips, and chips that differ are played one by one, at most " +
                    with_commas(kMostPlayedChips) +
                    "; leave --jitter and --straggler out or choose fewer mesh.pods");
  }
}

double slowness(const Variation& variation, int64_t rank) {
  double out = 1;
  if (variation.jitter > 0) {
    const RandomKey key = random_key(variation.seed, Purpose::synthetic, "chip speed");
    // A chip is never faster than half as slow again: the tail that matters is the slow one.
    out = std::max(0.5, 1 + variation.jitter * static_cast<double>(normal(key, static_cast<uint64_t>(rank))));
  }
  for (const Variation::Straggler& straggler : variation.stragglers) {
    if (straggler.rank == rank) out *= straggler.factor;
  }
  return out;
}

sim::PlayedChip placed(const mesh::Mesh& mesh, int rank) {
  const mesh::Coordinate at = mesh.coordinate(rank);
  sim::PlayedChip chip;
  chip.group[static_cast<size_t>(mesh::Axis::data)] = at.pod * mesh.model() + at.model;
  chip.group[static_cast<size_t>(mesh::Axis::model)] = at.pod * mesh.data() + at.data;
  chip.group[static_cast<size_t>(mesh::Axis::pod)] = at.data * mesh.model() + at.model;
  return chip;
}

}  // namespace toroid::train
