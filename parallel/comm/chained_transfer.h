// Transfers of one collective, one after the other, watched as one.
#pragma once

#include <memory>
#include <vector>

#include "parallel/comm/watch/watched_transfer.h"

namespace toroid {

class ChainedTransfer final : public WatchedTransfer {
 public:
  // `parts` have no watch of their own.
  ChainedTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveInfo info,
                  std::vector<std::unique_ptr<WatchedTransfer>> parts);
  Progress step() override;

 private:
  std::vector<std::unique_ptr<WatchedTransfer>> parts_;
  size_t at_ = 0;
};

}  // namespace toroid
