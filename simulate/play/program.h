// How another compiler's program runs the step that Toroid recorded: the same operators and collectives, with
// rules of that program for what they cost and what overlaps, in place of Toroid's own queues.
//
// "maxtext" (XLA, November 2023):
//   - attention reaches a share of the peak of its own;
//   - operators follow each other, and a share of each gather within the pod, and of each collective on the
//     model axis, is not hidden behind them; of scattering gradients nothing is hidden. On the links each
//     takes what its schedule takes alone;
//   - partial sums of activations travel in bf16;
//   - gradients are reduced between pods a layer at a time, after the layer, by a ring: a latency for each
//     reduction, one for each of its 2 (pods - 1) steps, and its bytes at the network's rate. Nothing is
//     hidden;
//   - where layers are parallel (attention and MLP read the same normalised input, and both outputs are added
//   to
//     the residual stream), the two share what they gather and scatter on the model axis, which halves it,
//     and recomputation leaves out the projection after attention, which nothing reads.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "core/device/sim/chip.h"
#include "core/device/sim/recording_device.h"
#include "simulate/play/player.h"

namespace toroid::train {

struct ProgramConstants {
  double attention_efficiency = 1;  // of the peak, causal FLOPs counted
  double exposed = 1;               // share of gathers and of the model axis' collectives
  Seconds pod_latency{0};           // of a reduction between pods
  Seconds pod_step{0};              // of each step of its ring
};

// Parts of a step; they add up to it.
struct ProgramTime {
  Seconds products{0}, memory_bound{0};
  std::array<Seconds, 5> torus{};  // exposed collectives within the pod, by Phase
  Seconds pods{0};
  std::array<Seconds, 5> phases{};  // operators, by Phase
  Seconds busy{0};                  // collectives within the pod, hidden or not
  Seconds torus_total() const;
  Seconds total() const { return products + memory_bound + torus_total() + pods; }
};

// A recorded step, operators and collectives that are alike counted together.
class ProgramStep {
 public:
  // `network`: of the mesh on the chip, with nominal constants.
  ProgramStep(std::span<const Record> records, sim::Network& network, bool parallel_layers);
  // With the chip's constants.
  ProgramTime time(const sim::Chip& chip, const ProgramConstants& constants) const;

 private:
  struct Operators {
    Cost cost;
    Phase phase = Phase::forward;
    bool attention = false;
    int64_t count = 0;
  };
  struct Collectives {
    CollectiveInfo info;
    Seconds latency{0}, transfer{0};  // alone, nominal
    double count = 0;
  };
  std::vector<Operators> operators_;
  std::vector<Collectives> collectives_;
};

// In the terms of a player, for the same answers; bytes and seconds of links are those of Toroid's schedules.
sim::Played as_played(const ProgramTime& time, sim::Network& network, std::span<const Record> records);

}  // namespace toroid::train
