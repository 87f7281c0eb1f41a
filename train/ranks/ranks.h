// The ranks of a run: the collectives of this rank's axes, and what one of them does for all.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/comm/world.h"
#include "parallel/zero/zero.h"

namespace toroid::train {

// This rank's groups. The data axis has two queues.
struct AxisGroups {
  std::unique_ptr<Communicator> gather, reduce, model, pod;
  ZeroGroups zero() const { return {*gather, *reduce, *model, *pod}; }
};

// Runs `work` on the first rank; where it throws an Error there, every other rank throws one of the same exit
// code without a word, since the first one says why. Blocks. `what` names it in reports.
void first_rank_alone(World& world, const std::string& what, const std::function<void()>& work);

}  // namespace toroid::train
