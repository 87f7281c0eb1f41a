// What every transfer of a group has in common: it tells the watch when it begins and ends, and asks it while
// nothing comes.
#pragma once

#include <memory>

#include "core/base/clock.h"
#include "core/comm/transfer.h"
#include "parallel/comm/watch.h"

namespace toroid {

// What the transfers of one communicator share; it lives as long as any of them.
struct GroupState {
  GroupMembers members;
  std::shared_ptr<Watch> watch;  // nullptr: nobody watches
};

class WatchedTransfer : public Transfer {
 public:
  WatchedTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveNote note);
  bool advance() final;

 protected:
  enum class Progress : uint8_t { waiting, moved, done };
  // Does what can be done at once, but not for much longer than a millisecond: other queues wait meanwhile.
  virtual Progress step() = 0;
  const GroupMembers& members() const { return group_->members; }
  [[noreturn]] void wrong_size(int peer, int64_t expected, int64_t received) const;

 private:
  Watch::Call call() const { return {&group_->members, sequence_, &note_}; }

  std::shared_ptr<const GroupState> group_;
  uint64_t sequence_;
  CollectiveNote note_;
  bool arrived_ = false;
  Stopwatch idle_;
  Seconds next_check_{0};
};

}  // namespace toroid
