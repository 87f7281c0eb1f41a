#include "parallel/comm/nccl/nccl_handle.h"

#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

#include "core/base/error.h"

namespace toroid {
namespace {

// How long a call of the other thread may stay inside NCCL before it is taken to hang there.
constexpr Seconds kCallEnds(2);
constexpr std::chrono::microseconds kBetweenLooks(50);

std::string_view name_of(ncclResult_t code) {
  switch (code) {
    case ncclSuccess:
      return "ncclSuccess";
    case ncclUnhandledCudaError:
      return "ncclUnhandledCudaError";
    case ncclSystemError:
      return "ncclSystemError";
    case ncclInternalError:
      return "ncclInternalError";
    case ncclInvalidArgument:
      return "ncclInvalidArgument";
    case ncclInvalidUsage:
      return "ncclInvalidUsage";
    case ncclRemoteError:
      return "ncclRemoteError";
    case ncclInProgress:
      return "ncclInProgress";
    default:
      return "an unknown code";
  }
}

}  // namespace

std::string text_of(ncclResult_t code, ncclComm_t comm) {
  std::string out = std::string(ncclGetErrorString(code)) + " (" + std::string(name_of(code)) + ")";
  const char* const last = ncclGetLastError(comm);
  if (last != nullptr && *last != '\0') out += ": " + std::string(last);
  return out;
}

void check_nccl(ncclResult_t code, const char* call) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  const std::string text = "NCCL failed in " + std::string(call) + ": " + text_of(code);
  if (code == ncclRemoteError) throw PeerError(text);
  throw SystemError(text);
}

NcclHandle::~NcclHandle() {
  leave();
}

ncclResult_t NcclHandle::state() const {
  const std::lock_guard lock(mutex_);
  ncclResult_t state = ncclSuccess;
  if (comm_ != nullptr) check_nccl(ncclCommGetAsyncError(comm_, &state), "ncclCommGetAsyncError");
  return state;
}

std::string NcclHandle::last_error() const {
  const std::lock_guard lock(mutex_);
  ncclResult_t state = ncclSuccess;
  if (comm_ != nullptr) (void)ncclCommGetAsyncError(comm_, &state);
  return text_of(state, comm_);
}

NcclHandle::Issued NcclHandle::issue(const char* name, const std::function<ncclResult_t(ncclComm_t)>& call,
                                     const std::function<void()>& waiting) {
  ncclComm_t comm = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (broken_off_) return Issued::broken_off;
    comm = comm_;
    issuing_ = true;
  }
  // Not under the lock: a launch waits while a stream has no room, and then only an end from outside helps.
  const ncclResult_t code = call(comm);
  {
    const std::lock_guard lock(mutex_);
    issuing_ = false;
    if (broken_off_) return Issued::broken_off;
  }
  check_nccl(code, name);
  const Stopwatch watch;
  for (ncclResult_t at = code; at == ncclInProgress;) {
    waiting();
    at = state();
    if (broken_off_) return Issued::broken_off;
    if (at != ncclInProgress && at != ncclSuccess) return Issued::failed;
    if (at == ncclInProgress && watch.elapsed() > Seconds(1e-4)) std::this_thread::sleep_for(kBetweenLooks);
  }
  return Issued::taken;
}

void NcclHandle::break_off() {
  job_->failed = true;
  const Stopwatch watch;
  while (true) {
    {
      const std::lock_guard lock(mutex_);
      broken_off_ = true;
      if (comm_ == nullptr) return;
      if (!issuing_ || watch.elapsed() > kCallEnds) {
        (void)ncclCommAbort(std::exchange(comm_, nullptr));
        return;
      }
    }
    std::this_thread::sleep_for(kBetweenLooks);
  }
}

// In good order, since peers may still read what this rank has sent them.
void NcclHandle::leave() {
  if (job_->failed) return break_off();
  const auto look = [this](const auto& call) {
    const std::lock_guard lock(mutex_);
    return comm_ == nullptr ? ncclSuccess : call();
  };
  const Stopwatch watch;
  ncclResult_t code = look([this] { return ncclCommFinalize(comm_); });
  while (code == ncclInProgress && watch.elapsed() < job_->peers_leave && !job_->failed) {
    std::this_thread::sleep_for(kBetweenLooks);
    code = look([&] {
      ncclResult_t state = ncclSuccess;
      const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state);
      return asked == ncclSuccess ? state : asked;
    });
  }
  if (code != ncclSuccess) job_->failed = true;  // the others are not waited for as well
  const std::lock_guard lock(mutex_);
  auto* const comm = std::exchange(comm_, nullptr);
  if (comm == nullptr) return;
  (void)(code == ncclSuccess ? ncclCommDestroy(comm) : ncclCommAbort(comm));
}

}  // namespace toroid
