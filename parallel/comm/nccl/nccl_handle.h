// The owner of one communicator of NCCL. One thread issues; another looks at its state meanwhile, and may
// break it off, which ends what hangs on the GPU.
#pragma once

#include <nccl.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "core/base/clock.h"

namespace toroid {

// "unhandled system error (ncclSystemError): what NCCL said last"
std::string text_of(ncclResult_t code, ncclComm_t comm = nullptr);
// SystemError where a call failed, PeerError where a peer is the cause; a communicator that does not block
// may still be at it.
void check_nccl(ncclResult_t code, const char* call);

// What all communicators of a rank share.
struct NcclJobState {
  std::atomic<bool> failed{false};  // one of them has been broken off
  Seconds peers_leave{5};           // how long peers may take to the end of one that all of them leave
};

class NcclHandle {
 public:
  NcclHandle(ncclComm_t comm, std::shared_ptr<NcclJobState> job) : comm_(comm), job_(std::move(job)) {}
  // As leave(), where that has not been.
  ~NcclHandle();
  NcclHandle(const NcclHandle&) = delete;  // of a communicator there is one owner
  NcclHandle& operator=(const NcclHandle&) = delete;

  // On the thread that issues: calls `call` unless it has been broken off, and returns once NCCL has taken
  // all of it. `waiting` is called meanwhile, and may throw; what the call itself returned is checked.
  enum class Issued : uint8_t {
    taken,
    broken_off,
    failed
  };  // `failed`: state() says what has happened since
  Issued issue(const char* name, const std::function<ncclResult_t(ncclComm_t)>& call,
               const std::function<void()>& waiting);
  // What NCCL says of it: ncclSuccess after it has ended here.
  ncclResult_t state() const;
  std::string last_error() const;
  // Ends what is under way on this rank, whatever the peers do. From any thread, more than once.
  void break_off();
  bool broken_off() const { return broken_off_; }
  // On the thread that issues, when nothing more will be: waits for what is under way, and for the peers to
  // do so too, but not for ever. Where the job has failed it is broken off, since they may not come.
  void leave();

 private:
  mutable std::mutex mutex_;  // of the communicator's end
  ncclComm_t comm_;           // nullptr: it has ended
  std::shared_ptr<NcclJobState> job_;
  std::atomic<bool> broken_off_{false};
  bool issuing_ = false;  // a call of the issuing thread is inside NCCL
};

}  // namespace toroid
