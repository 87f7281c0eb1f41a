// The layouts of a config on as many chips, ranked: which shape of the torus, data x model, microbatch,
// recomputation, prefetch and ZeRO stage give the most tokens/s, and why the others do not run.
#pragma once

#include <array>
#include <functional>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "core/device/block.h"
#include "simulate/answer/answer.h"

namespace toroid::train {

struct LayoutChoice {
  std::vector<int64_t> torus;
  int64_t data = 1, model = 1;
  int64_t sequences_per_replica = 1;
  config::TrainConfig::Remat remat = config::TrainConfig::NONE;
  bool keep_gathered = false;  // never where the model is whole
  int64_t prefetch = 1, stage = 3;

  bool operator==(const LayoutChoice&) const = default;
  // "torus 16 x 16, data 16, model 16, 1 sequence a replica, remat FULL and gathered inputs, prefetch 1,
  // ZeRO-3"
  std::string text() const;
};
LayoutChoice layout_of(const config::RunConfig& run);
// The config with this layout; mesh.placement is left to the mesh.
config::RunConfig with_layout(const config::RunConfig& run, const LayoutChoice& layout);

struct RankedLayout {
  LayoutChoice layout;
  bool own = false;  // the config's
  int64_t microbatches = 0;
  double padding = 0;  // share of the sequences that are there to fill microbatches
  TimeSplit split;
  Seconds step{0};
  std::array<Seconds, kQueues> waited{};  // by the compute queue, on each other queue
  double tokens_per_s = 0;
  MemoryAnswer memory;
  // Whether all microbatches were played; else three and four of them were, and the others are taken to last
  // as long as the fourth, which is optimistic where collectives fall behind compute.
  bool in_full = false;
};

struct RefusedLayouts {
  std::string reason;  // the message without its figures: what makes two of them one reason
  int64_t count = 0;
  LayoutChoice example;
  std::string message;  // the example's, with figures
};

struct Search {
  std::string chip;
  bool nominal = false;  // its constants are the data sheet's
  int64_t chips = 0, pods = 0;
  int64_t global_sequences = 0, tokens_per_sequence = 0;
  bool ramps = false;                // these are then the last phase's of batch.ramp
  std::vector<RankedLayout> ranked;  // all that run, the most tokens/s first, of equals the least memory
  std::vector<RefusedLayouts> refused;
  std::string own_refusal;  // where the config's own layout is not among the ranked
  int64_t tried = 0;
  // How many of those refused for memory were not recorded, because a leaner layout of the same mesh does not
  // fit either.
  int64_t not_recorded = 0;
  Seconds took{0};

  const RankedLayout* own() const;
};

struct SearchOptions {
  size_t best = 10;  // played in full, as the config's own layout is
};

// Answers for a simulated step.
using Answerer =
    std::function<Answer(const config::RunConfig& run, const sim::Chip& chip, const Simulation& simulation)>;

// What is tried: every torus of the pod's chips that the chip's pod has room for, every divisor of the pod's
// chips as the model axis, microbatches of 1, 2, 4, ... sequences up to what a replica has, the three
// policies of recomputation, along a model axis each with and without kept gathered inputs, ZeRO stages 1 to
// 3, and at stage 3 (below it, weights stay whole) prefetch 0 to 2; and the config's own layout. Pods, chips
// and the global batch stay. Deterministic mode has one sequence a microbatch.
std::vector<LayoutChoice> layout_choices(const config::RunConfig& run, const sim::Chip& chip);

Search search(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
              const Answerer& answerer, const SearchOptions& options = {});

// Why the best is better than the config's own layout, with figures.
std::string why_best(const Search& search);
void print_search(std::ostream& out, const Search& search, const SearchOptions& options);

}  // namespace toroid::train
