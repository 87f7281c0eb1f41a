#include "parallel/comm/watch/watched_transfer.h"

#include <utility>

#include "core/base/error.h"

namespace toroid {

WatchedTransfer::WatchedTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence,
                                 CollectiveInfo info)
    : group_(std::move(group)), sequence_(sequence), info_(std::move(info)) {}

bool WatchedTransfer::advance() {
  Watch* const watch = group_->watch.get();
  if (!arrived_) {
    arrived_ = true;
    idle_.restart();
    if (watch != nullptr) {
      next_check_ = watch->interval();
      agreed_ = watch->arrive(call());
    }
  }
  switch (try_step()) {
    case Progress::done:
      if (watch != nullptr) {
        watch->waited(call(), idle_.elapsed());
        watch->finish(call());
      }
      return true;
    case Progress::moved:
      idle_.restart();
      if (watch != nullptr) next_check_ = watch->interval();
      return false;
    case Progress::waiting:
      check();
      return false;
  }
  return false;
}

WatchedTransfer::Progress WatchedTransfer::try_step() {
  if (!agreed_) return Progress::waiting;
  try {
    return step();
  } catch (const WrongSize& wrong) {
    agreed_ = false;
    wrong_size_ = wrong;
    return Progress::waiting;
  }
}

void WatchedTransfer::check() {
  Watch* const watch = group_->watch.get();
  if (watch == nullptr) {
    if (wrong_size_) throw PeerError("a message of another size than expected");
    return;
  }
  const Seconds waited = idle_.elapsed();
  if (waited < next_check_) return;
  next_check_ = waited + watch->interval();
  watch->check(call(), waited);
  if (wrong_size_ && waited > Watch::patience(watch->deadline())) {
    watch->wrong_size(call(), wrong_size_->peer, wrong_size_->expected, wrong_size_->received);
  }
}

void WatchedTransfer::ring(Board& board) const {
  for (int place = 0; place < members().size(); ++place) {
    if (place != members().place) board.ring(members().slots[static_cast<size_t>(place)]);
  }
}

void WatchedTransfer::wrong_size(int peer, int64_t expected, int64_t received) {
  throw WrongSize{peer, expected, received};
}

void WatchedTransfer::compare(int peer, const Checksum& sent, const Checksum& received, int64_t bytes) const {
  if (sent == received) return;
  const std::vector<int>& ranks = members().ranks;
  WireFault fault{ranks[static_cast<size_t>(peer)],
                  ranks[static_cast<size_t>(members().place)],
                  sequence_,
                  sent,
                  received,
                  bytes};
  corrupted(fault, info_, state().checks == nullptr ? std::vector<std::string>() : state().checks->hosts());
}

}  // namespace toroid
