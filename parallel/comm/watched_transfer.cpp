#include "parallel/comm/watched_transfer.h"

#include <utility>

#include "core/base/error.h"

namespace toroid {

WatchedTransfer::WatchedTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence,
                                 CollectiveNote note)
    : group_(std::move(group)), sequence_(sequence), note_(std::move(note)) {}

bool WatchedTransfer::advance() {
  Watch* const watch = group_->watch.get();
  if (!arrived_) {
    arrived_ = true;
    idle_.restart();
    if (watch != nullptr) {
      next_check_ = watch->interval();
      watch->arrive(call());
    }
  }
  switch (step()) {
    case Progress::done:
      if (watch != nullptr) watch->finish(call());
      return true;
    case Progress::moved:
      idle_.restart();
      if (watch != nullptr) next_check_ = watch->interval();
      return false;
    case Progress::waiting:
      break;
  }
  if (watch == nullptr) return false;
  const Seconds waited = idle_.elapsed();
  if (waited >= next_check_) {
    watch->check(call(), waited);
    next_check_ = waited + watch->interval();
  }
  return false;
}

void WatchedTransfer::wrong_size(int peer, int64_t expected, int64_t received) const {
  if (group_->watch != nullptr) group_->watch->wrong_size(call(), peer, expected, received);
  throw PeerError("a message of another size than expected");
}

}  // namespace toroid
