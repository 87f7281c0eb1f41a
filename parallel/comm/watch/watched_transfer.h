// What every transfer of a group has in common: it tells the watch when it begins and ends, and asks it while
// nothing comes.
#pragma once

#include <memory>
#include <optional>

#include "core/base/clock.h"
#include "core/device/transfer.h"
#include "parallel/comm/watch/watch.h"
#include "parallel/comm/watch/wire_checks.h"

namespace toroid {

struct Traffic;

// What the transfers of one communicator share; it lives as long as any of them.
struct GroupState {
  GroupMembers members;
  std::shared_ptr<Traffic> traffic;
  std::shared_ptr<Watch> watch;        // nullptr: nobody watches
  std::shared_ptr<WireChecks> checks;  // nullptr: nothing is checked
};

class WatchedTransfer : public Transfer {
 public:
  WatchedTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveInfo info);
  bool advance() final;

  enum class Progress : uint8_t { waiting, moved, done };
  // Does what can be done at once, but not for much longer than a millisecond: other queues wait meanwhile.
  virtual Progress step() = 0;

 protected:
  const GroupMembers& members() const { return group_->members; }
  const GroupState& state() const { return *group_; }
  Watch::Call call() const { return {&group_->members, sequence_, &info_}; }
  // Wakes the other members, all of them on this host. The rank that comes last does, after it has said so:
  // of two that are last at once, at least one sees the other.
  void ring(Board& board) const;
  // Ends this step, and the transfer as soon as it is known who is out of step.
  [[noreturn]] static void wrong_size(int peer, int64_t expected, int64_t received);
  // CorruptionError where what came from the member at place `peer` is not what it had.
  void compare(int peer, const Checksum& sent, const Checksum& received, int64_t bytes) const;

 private:
  struct WrongSize {
    int peer = 0;
    int64_t expected = 0, received = 0;
  };
  Progress try_step();
  void check();

  std::shared_ptr<const GroupState> group_;
  uint64_t sequence_;
  CollectiveInfo info_;
  bool arrived_ = false;
  bool agreed_ = true;  // as far as is known, all ranks make the same call
  std::optional<WrongSize> wrong_size_;
  Stopwatch idle_;
  Seconds next_check_{0};
};

}  // namespace toroid
