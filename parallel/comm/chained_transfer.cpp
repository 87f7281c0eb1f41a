#include "parallel/comm/chained_transfer.h"

#include <utility>

namespace toroid {

ChainedTransfer::ChainedTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence,
                                 CollectiveInfo info, std::vector<std::unique_ptr<WatchedTransfer>> parts)
    : WatchedTransfer(std::move(group), sequence, std::move(info)), parts_(std::move(parts)) {}

WatchedTransfer::Progress ChainedTransfer::step() {
  const size_t before = at_;
  for (; at_ < parts_.size(); ++at_) {
    const Progress progress = parts_[at_]->step();
    if (progress == Progress::done) continue;
    return at_ > before ? Progress::moved : progress;
  }
  return Progress::done;
}

}  // namespace toroid
