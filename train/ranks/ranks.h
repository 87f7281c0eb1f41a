// The ranks of a run: the collectives of this rank's axes, and what the processes tell each other outside a
// step.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "parallel/comm/world.h"
#include "parallel/zero/zero.h"

namespace toroid::train {

// This rank's groups. The data axis has two queues; `all` is every rank of the run.
struct AxisGroups {
  std::unique_ptr<Communicator> gather, reduce, model, pod, all;
  ZeroGroups zero() const { return {*gather, *reduce, *model, *pod}; }
};

// Runs `work` on the first rank; where it throws an Error there, every other rank throws one of the same exit
// code without a word, since the first one says why. Blocks. `what` names it in reports.
void first_rank_alone(World& world, Device& device, Communicator& all, const std::string& what,
                      const std::function<void()>& work);

// Every rank's text, on every rank, in the order of the ranks; blocks. `what` names it in reports.
std::vector<std::string> exchange(Device& device, Communicator& all, const std::string& text,
                                  const std::string& what);
// The same for a few numbers, as many on every rank: all ranks' one after the other.
std::vector<double> exchange(Device& device, Communicator& all, std::span<const double> numbers,
                             const std::string& what);

}  // namespace toroid::train
