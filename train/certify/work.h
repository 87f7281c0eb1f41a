// What a layout gives each rank to do in one step: FLOPs of matrix products and bytes of collectives, in
// closed form from the config alone (work.cpp has the formulas). Nothing here asks the step
// program, the units or the shares of the model axis, so that what the ranks recorded is held against an
// independent account. All ranks of a layout have the same work, since what does not divide is padded, but
// for what they divide among themselves matrix by matrix.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "core/device/sim/recording_device.h"

namespace toroid::train {

// Sums over one step of one rank.
struct RankWork {
  std::map<std::string, int64_t> flops;  // of matrix products, by phase and kind: "backward attention"
  std::map<std::string, int64_t> bytes;  // of the whole arrays of collectives, by "axis operation"
  int64_t all_flops() const;
  bool operator==(const RankWork&) const = default;
};

// The work that is in what a rank issued in one step.
RankWork recorded_work(std::span<const Record> records);

struct PlannedWork {
  struct Flops {
    Phase phase;
    std::string part;  // "qkv", "attention", "output", "mlp", "head", "update"
    int64_t flops;
  };
  struct Bytes {
    std::string axis, operation;
    std::string what;  // "weights", "gradients", "activations", "gradient norm", "losses"
    int64_t bytes;
  };
  std::vector<Flops> flops;
  std::vector<Bytes> bytes;
  // Of all ranks together: products of the update rule, each matrix's at its owner. Exchanges take matrices
  // there and back in equal blocks, on all ranks alike: their bytes are at least these.
  std::vector<Flops> shared_flops;
  std::vector<Bytes> exchanged;
  std::vector<std::string> copies;  // one sentence for each replica and each padding
  int64_t ranks = 1;
  int64_t needed_flops = 0;  // of all ranks together, were nothing padded or computed again for the layout

  RankWork of_a_rank() const;    // without what is shared
  int64_t flops_of_all() const;  // of all ranks together
};

// `run` has been validated.
PlannedWork planned_work(const config::RunConfig& run);

// One sentence for each figure of a rank that is not as planned; the first ranks' and then how many more.
std::vector<std::string> compare_work(const PlannedWork& planned, std::span<const RankWork> recorded);

// The plan as lines: FLOPs by part, bytes by axis, copies.
std::vector<std::string> describe(const PlannedWork& planned);

}  // namespace toroid::train
