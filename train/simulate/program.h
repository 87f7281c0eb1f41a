// How another compiler's program runs the step that Toroid recorded: the same operators and collectives, with
// rules of that program for what they cost and what overlaps, in place of Toroid's own queues.
//
// "maxtext" (XLA, November 2023):
//   - attention reaches a share of the peak of its own;
//   - in each direction of the step (forward; recomputation and backward) operators and the collectives
//   within
//     the pod run beside each other, and the longer of the two counts;
//   - a collective within the pod takes (n - 1) / n of its bytes at the rate of `links` links, sums in fp32;
//   - gradients are reduced between pods a layer at a time, after the layer, by a ring: a latency for each
//     reduction, one for each of its 2 (pods - 1) steps, and its bytes at the network's rate. None overlaps.
#pragma once

#include <array>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "core/device/sim/chip.h"
#include "core/device/sim/recording_device.h"
#include "parallel/comm/sim/player.h"

namespace toroid::train {

struct ProgramConstants {
  double attention_efficiency = 1;  // of the peak, causal FLOPs counted
  double links = 4;                 // of a chip, one way, that a collective within the pod keeps busy
  Seconds pod_latency{0};           // of a reduction between pods
  Seconds pod_step{0};              // of each step of its ring
};

// Parts of a step; they add up to it.
struct ProgramTime {
  Seconds products{0}, memory_bound{0};
  Seconds torus_forward{0}, torus_backward{0};  // what collectives take beyond the operators beside them
  Seconds pods{0};
  std::array<Seconds, 5> phases{};  // operators, by Phase
  Seconds busy{0};                  // collectives within the pod
  Seconds total() const { return products + memory_bound + torus_forward + torus_backward + pods; }
};

// A recorded step, operators and collectives that are alike counted together.
class ProgramStep {
 public:
  explicit ProgramStep(std::span<const Record> records);
  ProgramTime time(const sim::Chip& chip, const ProgramConstants& constants) const;

 private:
  struct Operators {
    Cost cost;
    Phase phase = Phase::forward;
    bool attention = false;
    int64_t count = 0;
  };
  struct Collectives {
    CollectiveNote note;
    int64_t count = 0;
  };
  std::vector<Operators> operators_;
  std::vector<Collectives> collectives_;
};

// In the terms of a player, for the same answers; bytes and seconds of links are those of Toroid's schedules.
sim::Played as_played(const ProgramTime& time, sim::Network& network, std::span<const Record> records);

}  // namespace toroid::train
