// Whether a rank's step fits its device's memory: found out before anything of it is made, since the device
// itself would say so in the middle of a step.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "train/loop/dry_run.h"

namespace toroid::train {

// A change of the config that takes less memory, as one writes it after --set: "train.remat=FULL".
struct MemoryChange {
  std::string text;
  std::function<void(config::RunConfig& run)> apply;
};
// Those that this config leaves open, the ones that cost least first. None of them changes a result.
std::vector<MemoryChange> memory_changes(const config::RunConfig& run);

// The fewest of them, in their order, with which the config takes at most `bytes`; nothing where not even all
// do. `bytes_of` says what a config takes.
struct MemoryRemedy {
  std::string text;  // "train.remat=FULL", "train.remat=FULL and zero.stage=3"
  int64_t bytes = 0;
};
std::optional<MemoryRemedy> memory_remedy(
    const config::RunConfig& run, int64_t bytes,
    const std::function<int64_t(const config::RunConfig& run)>& bytes_of);

// UserError where the step of this rank of `world` takes more than `device` has: with the three largest
// holders and what makes it fit. Devices with the host's memory are not asked.
void check_memory(const config::RunConfig& run, World& world, const Device& device, const Plugins& plugins);

}  // namespace toroid::train
