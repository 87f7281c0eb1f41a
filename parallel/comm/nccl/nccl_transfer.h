// One job on the stream of a queue. The device keeps the part that is on the stream; another, on the thread
// that serves transfers, tells the peers of it and watches over it as over any other: from when the stream
// has come to it, so that a deadline runs while peers are waited for and not while this rank computes.
// Whatever ends it early breaks the communicator off, so that the streams run dry, and is thrown where the
// device next waits.
#pragma once

#include <nccl.h>

#include <array>
#include <memory>

#include "core/device/cpu/transfer_thread.h"
#include "parallel/comm/nccl/nccl_handle.h"
#include "parallel/comm/nccl/stream_collectives.h"
#include "parallel/comm/watch/watched_transfer.h"

namespace toroid {

// The queues on which the thread watches over the jobs of one rank's groups; the issuing thread's.
class NcclWatchQueues {
 public:
  explicit NcclWatchQueues(std::shared_ptr<cpu::TransferThread> thread) : queues_(std::move(thread)) {}
  Event enqueue(Queue queue, std::unique_ptr<Transfer> transfer);
  bool done(Event event) const { return queues_.done(event); }
  // Throws what ended the thread's transfers.
  void rethrow(Event event);

 private:
  cpu::TransferQueues queues_;
  std::array<uint64_t, kQueues> tickets_{};
};

// A group's calls on one queue.
class NcclCollectives final : public StreamCollectives {
 public:
  NcclCollectives(std::shared_ptr<NcclHandle> handle, std::shared_ptr<NcclWatchQueues> watch_queues,
                  Queue queue, std::shared_ptr<const GroupState> group);
  ~NcclCollectives() override;
  std::unique_ptr<Transfer> transfer(StreamJob job, uint64_t sequence, CollectiveInfo info) override;

 private:
  std::shared_ptr<NcclHandle> handle_;
  std::shared_ptr<NcclWatchQueues> watch_queues_;
  Queue queue_;
  std::shared_ptr<const GroupState> group_;
};

}  // namespace toroid
