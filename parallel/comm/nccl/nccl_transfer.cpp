#include "parallel/comm/nccl/nccl_transfer.h"

#include <atomic>
#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "core/base/error.h"

namespace toroid {
namespace {

ncclDataType_t nccl_type(DType type) {
  switch (type) {
    case DType::f64:
      return ncclFloat64;
    case DType::f32:
      return ncclFloat32;
    case DType::bf16:
      return ncclBfloat16;
    case DType::i64:
      return ncclInt64;
    case DType::i32:
      return ncclInt32;
    case DType::u8:
      return ncclUint8;
  }
  throw InternalError("an unknown type");
}

void check_cuda(cudaError_t code, const char* what) {
  if (code == cudaSuccess) return;
  throw SystemError("the GPU failed " + std::string(what) + ": " + cudaGetErrorString(code) + " (" +
                    cudaGetErrorName(code) + ")");
}

// A moment of a stream. Recorded on one thread, asked after on another.
class Moment {
 public:
  Moment() { check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "to make an event"); }
  ~Moment() { (void)cudaEventDestroy(event_); }
  Moment(const Moment&) = delete;  // owns an event
  Moment& operator=(const Moment&) = delete;
  void record(cudaStream_t stream) {
    check_cuda(cudaEventRecord(event_, stream), "to record an event");
    recorded_.store(true, std::memory_order_release);
  }
  bool has_passed() const {
    if (!recorded_.load(std::memory_order_acquire)) return false;
    const cudaError_t code = cudaEventQuery(event_);
    if (code == cudaErrorNotReady) return false;
    check_cuda(code, "in a collective, or before it");
    return true;
  }

 private:
  cudaEvent_t event_ = nullptr;
  std::atomic<bool> recorded_{false};
};

// What the two parts of a job share.
struct OnStream {
  std::shared_ptr<NcclHandle> handle;
  Moment begin, end;
};

ncclResult_t issue_parts(const StreamJob& job, ncclComm_t comm, cudaStream_t stream) {
  const ncclDataType_t type = nccl_type(job.type);
  ncclResult_t code = ncclGroupStart();
  for (const StreamJob::Part& part : job.parts) {
    if (code != ncclSuccess && code != ncclInProgress) break;
    const auto elements = static_cast<size_t>(part.elements);
    code = part.receive ? ncclRecv(part.data, elements, type, part.peer, comm, stream)
                        : ncclSend(part.data, elements, type, part.peer, comm, stream);
  }
  const ncclResult_t end = ncclGroupEnd();
  return code == ncclSuccess || code == ncclInProgress ? end : code;
}

ncclResult_t issue_job(const StreamJob& job, int ranks, ncclComm_t comm, cudaStream_t stream) {
  const ncclDataType_t type = nccl_type(job.type);
  const ncclRedOp_t how = job.how == Combine::sum ? ncclSum : ncclMax;
  const auto elements = static_cast<size_t>(job.elements), share = elements / static_cast<size_t>(ranks);
  switch (job.operation) {
    case StreamJob::Operation::all_gather:
      return ncclAllGather(job.in, job.out, share, type, comm, stream);
    case StreamJob::Operation::reduce_scatter:
      return ncclReduceScatter(job.in, job.out, share, type, how, comm, stream);
    case StreamJob::Operation::all_reduce:
      return ncclAllReduce(job.in, job.out, elements, type, how, comm, stream);
    case StreamJob::Operation::broadcast:
      return ncclBroadcast(job.in, job.out, elements, type, job.root, comm, stream);
    case StreamJob::Operation::exchange:
      return issue_parts(job, comm, stream);
  }
  throw InternalError("an unknown operation");
}

// On the thread that serves transfers.
class Watched final : public WatchedTransfer {
 public:
  Watched(std::shared_ptr<const GroupState> group, uint64_t sequence, CollectiveInfo info,
          std::shared_ptr<OnStream> on_stream)
      : WatchedTransfer(std::move(group), sequence, std::move(info)), on_stream_(std::move(on_stream)) {}

  Progress step() override {
    const NcclHandle& handle = *on_stream_->handle;
    const ncclResult_t code = handle.state();
    if (code != ncclSuccess && code != ncclInProgress) return failed(code);
    if (handle.broken_off())
      throw PeerError(call().info->operation + " of " + call().info->tensor + " on axis " +
                      call().info->axis + " was broken off");
    if (!on_stream_->end.has_passed()) return Progress::waiting;
    const Watch* const watch = state().watch.get();
    if (watch == nullptr || watch->agreement(call()) == Watch::Agreement::same) return Progress::done;
    return Progress::waiting;
  }

 private:
  // The watch may know better which peer is the cause, and is given the time to say so.
  Progress failed(ncclResult_t code) {
    if (!failed_at_) {
      failed_at_.emplace();
      failure_ = on_stream_->handle->last_error();
    }
    const Watch* const watch = state().watch.get();
    if (watch != nullptr && failed_at_->elapsed() < Watch::patience(watch->deadline()))
      return Progress::waiting;
    const std::string text = "NCCL failed in " + call().info->operation + " of '" + call().info->tensor +
                             "' on axis " + call().info->axis + ": " + failure_;
    if (code == ncclRemoteError) throw PeerError(text);
    throw SystemError(text);
  }

  std::shared_ptr<OnStream> on_stream_;
  std::optional<Stopwatch> failed_at_;
  std::string failure_;
};

// Keeps a transfer from beginning until the stream has come to it.
class HeldBack final : public Transfer {
 public:
  HeldBack(std::shared_ptr<OnStream> on_stream, std::unique_ptr<Transfer> inner)
      : on_stream_(std::move(on_stream)), inner_(std::move(inner)) {}
  // Whatever ended it early, be it another transfer's failure.
  ~HeldBack() override {
    if (!done_) on_stream_->handle->break_off();
  }
  HeldBack(const HeldBack&) = delete;  // ends once
  HeldBack& operator=(const HeldBack&) = delete;
  bool advance() override {
    // The GPU and NCCL are not asked in every turn of the thread's loop.
    if (since_look_ && since_look_->elapsed() < kBetweenLooks) return false;
    since_look_.emplace();
    if (!begun_) begun_ = on_stream_->begin.has_passed();
    if (begun_) done_ = inner_->advance();
    return done_;
  }

 private:
  static constexpr Seconds kBetweenLooks{50e-6};
  std::shared_ptr<OnStream> on_stream_;
  std::unique_ptr<Transfer> inner_;
  std::optional<Stopwatch> since_look_;
  bool begun_ = false, done_ = false;
};

class NcclTransfer final : public Transfer {
 public:
  NcclTransfer(std::shared_ptr<OnStream> on_stream, StreamJob job, int ranks,
               std::unique_ptr<Transfer> watched, Queue queue, std::shared_ptr<NcclWatchQueues> watch_queues)
      : on_stream_(std::move(on_stream)),
        job_(std::move(job)),
        ranks_(ranks),
        watched_(std::move(watched)),
        queue_(queue),
        watch_queues_(std::move(watch_queues)) {}

  bool put_on(void* handle) override {
    auto* const stream = static_cast<cudaStream_t>(handle);
    on_stream_->begin.record(stream);
    ticket_ = watch_queues_->enqueue(queue_, std::make_unique<HeldBack>(on_stream_, std::move(watched_)));
    const NcclHandle::Issued issued = on_stream_->handle->issue(
        "a collective", [&](ncclComm_t comm) { return issue_job(job_, ranks_, comm, stream); }, [] {});
    if (issued != NcclHandle::Issued::taken) {
      watch_queues_->rethrow(ticket_);  // the watch knows best which peer is the cause
      throw PeerError("a collective was broken off before it began");
    }
    on_stream_->end.record(stream);
    return true;
  }
  bool advance() override { throw InternalError("what is on a stream is not advanced"); }
  bool settled() override {
    if (watch_queues_->done(ticket_)) return true;
    if (on_stream_->handle->broken_off()) watch_queues_->rethrow(ticket_);
    return false;
  }

 private:
  std::shared_ptr<OnStream> on_stream_;
  StreamJob job_;
  int ranks_;
  std::unique_ptr<Transfer> watched_;
  Queue queue_;
  std::shared_ptr<NcclWatchQueues> watch_queues_;
  Event ticket_;
};

}  // namespace

Event NcclWatchQueues::enqueue(Queue queue, std::unique_ptr<Transfer> transfer) {
  const Event ticket{queue, ++tickets_[static_cast<size_t>(queue)]};
  queues_.enqueue(ticket, std::move(transfer));
  return ticket;
}

// What broke a communicator off has been told to the thread before; a moment is left for it to get there.
void NcclWatchQueues::rethrow(Event event) {
  constexpr Seconds kMoment(5);
  queues_.wait(event, kMoment);
}

NcclCollectives::NcclCollectives(std::shared_ptr<NcclHandle> handle,
                                 std::shared_ptr<NcclWatchQueues> watch_queues, Queue queue,
                                 std::shared_ptr<const GroupState> group)
    : handle_(std::move(handle)),
      watch_queues_(std::move(watch_queues)),
      queue_(queue),
      group_(std::move(group)) {}

NcclCollectives::~NcclCollectives() {
  // While an exception passes through, the peers may not come to the end either.
  if (std::uncaught_exceptions() > 0) {
    handle_->break_off();
  } else {
    handle_->leave();
  }
}

std::unique_ptr<Transfer> NcclCollectives::transfer(StreamJob job, uint64_t sequence, CollectiveInfo info) {
  auto on_stream = std::make_shared<OnStream>();
  on_stream->handle = handle_;
  auto watched = std::make_unique<Watched>(group_, sequence, std::move(info), on_stream);
  return std::make_unique<NcclTransfer>(std::move(on_stream), std::move(job), group_->members.size(),
                                        std::move(watched), queue_, watch_queues_);
}

}  // namespace toroid
