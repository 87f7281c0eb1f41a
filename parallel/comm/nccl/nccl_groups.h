// The groups of a world whose ranks have a GPU each, over NCCL. The world is its control plane: by it ranks
// find out about each other, and no rank calls what all have to call before all are known to have come. There
// is one communicator of all ranks, and groups are parts of it, made in the order in which the program makes
// them.
#pragma once

#include <nccl.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "parallel/comm/nccl/nccl_handle.h"
#include "parallel/comm/nccl/nccl_transfer.h"
#include "parallel/comm/world.h"

namespace toroid {

class NcclGroups final : public DeviceGroups {
 public:
  struct Options {
    int gpu = 0;  // this rank's, as CUDA counts those that it sees
    // The device's memory, made known to NCCL once for every group; none: it is not.
    std::span<std::byte> memory = {};
    // The multiprocessors that a collective takes at most, so that compute beside it keeps the others.
    int most_multiprocessors = 16;
    Seconds deadline{600};  // for ranks that have all come to find each other
  };
  // All ranks of `world`, which outlives this, make it together, on the thread that issues. UserError where
  // several ranks find no NCCL, two ranks of a host share a GPU, or ranks have different versions of NCCL.
  NcclGroups(World& world, const Options& options);
  ~NcclGroups() override;
  NcclGroups(const NcclGroups&) = delete;  // owns communicators
  NcclGroups& operator=(const NcclGroups&) = delete;

  bool serves(const Device& device) const override;
  std::unique_ptr<Communicator> make(Device& device, Queue queue, std::string axis,
                                     std::shared_ptr<const GroupState> state, schedule::GroupShape shape,
                                     const GroupOptions& options) override;
  void stand_by(const std::string& axis) override;

 private:
  void meet_ranks() const;
  [[noreturn]] void could_not_join(const std::string& what, ncclResult_t state,
                                   const std::string& said) const;
  std::shared_ptr<NcclHandle> ready(ncclComm_t comm, const std::string& what) const;
  std::shared_ptr<NcclHandle> split(int color, int key, const std::string& axis);
  void make_memory_known(NcclHandle& handle) const;
  ncclConfig_t config() const;

  World& world_;
  Options options_;
  std::shared_ptr<NcclJobState> job_ = std::make_shared<NcclJobState>();
  std::shared_ptr<NcclWatchQueues> watch_queues_;  // none in a world of one rank
  std::shared_ptr<NcclHandle> all_;
};

// The version of NCCL that is found: "2.28.9". UserError where none is.
std::string nccl_version();
// In this process's environment, before its first communicator is made: whose order sums have, and that of
// what is issued to several communicators.
void fix_nccl_algorithms();

}  // namespace toroid
