// Collectives that the transport carries out itself, such as MPI's.
#pragma once

#include "parallel/comm/watch/watched_transfer.h"
#include "parallel/comm/within_host/host_transfer.h"
#include "parallel/schedule/schedule.h"

namespace toroid {

// The collectives of one group. One thread uses them, for one call at a time.
class LibraryCollectives {
 public:
  virtual ~LibraryCollectives() = default;
  // Whether it does this, and to the same numbers.
  virtual bool serves(schedule::Operation operation, DType type, Combine how, int64_t elements) const = 0;
  // `job`: without ticket and staging. Its memory stays in place until done() has said so, which ends the
  // call.
  virtual void begin(const HostJob& job) = 0;
  virtual bool done() = 0;
};

class LibraryTransfer final : public WatchedTransfer {
 public:
  LibraryTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveInfo info,
                  std::shared_ptr<LibraryCollectives> library, const HostJob& job);
  Progress step() override;

 private:
  std::shared_ptr<LibraryCollectives> library_;
  HostJob job_;
  bool begun_ = false;
};

}  // namespace toroid
