// The ranks of a run before anything is made of its config: they say what they are, and part as a run or not
// at all.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/comm/communicator.h"
#include "core/device/cpu/cpu_device.h"
#include "parallel/comm/world.h"
#include "train/ranks/identity.h"

namespace toroid::train {

// Thrown on every rank alike. It holds the job together until the first rank has said what is wrong: a rank
// that left before would end the others.
class RanksDisagree : public UserError {
 public:
  RanksDisagree(const std::string& message, std::shared_ptr<World> world)
      : UserError(message), world_(std::move(world)) {}
  bool speaks() const { return world_->rank() == 0; }

 private:
  std::shared_ptr<World> world_;
};

class Meeting {
 public:
  // `transfers` is nullptr where the world is one rank.
  Meeting(std::unique_ptr<World> world, std::shared_ptr<cpu::TransferThread> transfers);

  const World& world() const { return *world_; }
  bool leads() const { return world_->rank() == 0; }

  // Every rank's text, on every rank; blocks. `what` names it in reports.
  std::vector<std::string> exchange(const std::string& text, const std::string& what);
  // first_rank_alone() of these ranks.
  void first_alone(const std::string& what, const std::function<void()>& work);
  // Unlike processors use the instructions that all of them have, so that one computes what another would. To
  // be called before kernels are made.
  void settle_instructions();
  // RanksDisagree, on all ranks, where one of them has another identity than the first.
  void agree(const RunIdentity& mine);

  // The ranks go on as a run.
  struct Parted {
    std::unique_ptr<World> world;
    std::shared_ptr<cpu::TransferThread> transfers;
  };
  Parted part();

 private:
  std::unique_ptr<World> world_;
  std::shared_ptr<cpu::TransferThread> transfers_;
  std::unique_ptr<CpuDevice> device_;  // without kernels
  std::unique_ptr<Communicator> all_;
};

// Meets the ranks that were launched, each of which waits so long for its peers.
Meeting meet_launched_ranks(Seconds deadline);

}  // namespace toroid::train
