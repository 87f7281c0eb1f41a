#include "parallel/comm/library_transfer.h"

#include <utility>

namespace toroid {

LibraryTransfer::LibraryTransfer(std::shared_ptr<const GroupState> group, uint64_t sequence,
                                 CollectiveInfo info, std::shared_ptr<LibraryCollectives> library,
                                 const HostJob& job)
    : WatchedTransfer(std::move(group), sequence, std::move(info)), library_(std::move(library)), job_(job) {}

WatchedTransfer::Progress LibraryTransfer::step() {
  if (!begun_) {
    library_->begin(job_);
    begun_ = true;
    return Progress::moved;
  }
  return library_->done() ? Progress::done : Progress::waiting;
}

}  // namespace toroid
