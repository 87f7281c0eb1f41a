#include "core/device/cuda/cuda_device.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iterator>
#include <thread>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/cuda/gpus.h"
#include "core/device/cuda/libraries.h"

namespace toroid {
namespace {

// For CUDA's own context growth, libraries' workspaces and what collectives take: an estimate.
constexpr int64_t kLeftToLibraries = int64_t{1} << 30;

bool is_communication(Queue queue) {
  return queue != Queue::compute && queue != Queue::host;
}

int64_t bytes_to_hold(const CudaDevice::Options& options) {
  cuda::use_gpu(options.gpu);
  const cuda::GpuMemory memory = cuda::gpu_memory();
  const int64_t bytes = options.bytes > 0 ? options.bytes : memory.free - kLeftToLibraries;
  if (bytes > 0 && bytes <= memory.free) return bytes;
  throw SystemError("not enough memory on GPU " + std::to_string(options.gpu) + ": of its " +
                    human_bytes(memory.total) + ", " + human_bytes(memory.free) + " are free, and " +
                    (options.bytes > 0
                         ? human_bytes(options.bytes) + " are wanted"
                         : human_bytes(kLeftToLibraries) + " stay free for CUDA and its libraries") +
                    "; is another program using it? (nvidia-smi lists them)");
}

}  // namespace

CudaDevice::CudaDevice(std::shared_ptr<const DeviceKernels> kernels, const Options& options)
    : Device(std::move(kernels)),
      options_(options),
      calls_(options.gpu),
      arena_(bytes_to_hold(options), traits().memory_unit),
      marks_(kMarks) {
  try {
    start();
  } catch (...) {
    stop();
    throw;
  }
}

void CudaDevice::start() {
  void* base = nullptr;
  calls_.check(cudaMalloc(&base, static_cast<size_t>(arena_.bytes())), "cudaMalloc");
  base_ = static_cast<std::byte*>(base);
  for (size_t queue = 0; queue < kQueues; ++queue) {
    Stream& of = streams_[queue];
    const int priority = is_communication(static_cast<Queue>(queue)) ? -1 : 0;  // lower numbers come first
    calls_.check(cudaStreamCreateWithPriority(&of.stream, cudaStreamNonBlocking, priority),
                 "cudaStreamCreateWithPriority");
    for (cudaEvent_t& event : of.events) {
      calls_.check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    }
  }
  staging_ = std::make_unique<cuda::PinnedRing>(calls_, options_.staging_bytes);
  libraries_ = std::make_unique<cuda::Libraries>(options_.gpu, options_.attention.fused);
  timeline_ = std::make_unique<cuda::Timeline>(calls_);
  align();
}

void CudaDevice::stop() {
  if (overdue_ && !idle()) {
    // A stream that never ends would be waited for below and in whatever CUDA tears down: all of it is left
    // to the end of the process.
    for (UnderWay& one : transfers_) (void)one.transfer.release();
    (void)staging_.release();
    (void)libraries_.release();
    (void)timeline_.release();
    return;
  }
  for (const Stream& of : streams_) {
    if (of.stream != nullptr) (void)cudaStreamSynchronize(of.stream);
  }
  transfers_.clear();
  timeline_.reset();
  staging_.reset();
  libraries_.reset();
  for (const Stream& of : streams_) {
    if (of.stream != nullptr) (void)cudaStreamDestroy(of.stream);
    for (cudaEvent_t event : of.events) {
      if (event != nullptr) (void)cudaEventDestroy(event);
    }
  }
  for (const Mark& mark : marks_) {
    if (mark.event != nullptr) (void)cudaEventDestroy(mark.event);
  }
  if (base_ != nullptr) (void)cudaFree(base_);
}

CudaDevice::~CudaDevice() {
  stop();
}

cudaEvent_t CudaDevice::event_of(Event event) const {
  return streams_[static_cast<size_t>(event.queue)].events[event.ticket % kRing];
}

const CudaDevice::Mark* CudaDevice::mark_of(Event event) const {
  const Mark& mark = marks_[event.mark % kMarks];
  return event.mark > 0 && mark.number == event.mark ? &mark : nullptr;
}

void CudaDevice::passed(Event ticket, std::string_view operation) {
  calls_.issued(ticket, operation);
  streams_[static_cast<size_t>(ticket.queue)].last = event_of(ticket);
  calls_.check(cudaEventRecord(event_of(ticket), stream(ticket.queue)), "cudaEventRecord");
}

bool CudaDevice::idle() const {
  return std::all_of(streams_.begin(), streams_.end(), [](const Stream& of) {
    return of.last == nullptr || cudaEventQuery(of.last) != cudaErrorNotReady;
  });
}

bool CudaDevice::has_passed(cudaEvent_t event) const {
  const cudaError_t code = cudaEventQuery(event);
  if (code == cudaErrorNotReady) return false;
  calls_.check(code, "cudaEventQuery");
  return true;
}

// Polled, so that a deadline ends it; spun for a moment first, since most waits are short.
void CudaDevice::wait_for(cudaEvent_t event, Seconds deadline) const {
  constexpr Seconds kSpun(1e-4);
  const Stopwatch watch;
  while (!has_passed(event)) {
    const Seconds waited = watch.elapsed();
    if (deadline.count() > 0 && waited > deadline) {
      overdue_ = true;
      throw SystemError("GPU " + std::to_string(options_.gpu) + " did not come to an event within " +
                        std::to_string(deadline.count()) + " s; the last operations issued were " +
                        calls_.last_operations());
    }
    for (const UnderWay& one : transfers_) (void)one.transfer->settled();
    if (waited > kSpun) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

void CudaDevice::synchronize(Event event, Seconds deadline) {
  if (event.ticket == 0) return;
  // A recorded event is its own: the ring's may belong to a younger entry by now.
  const Mark* const mark = mark_of(event);
  wait_for(mark != nullptr ? mark->event : event_of(event), deadline);
  drop_transfers(Verdict::settle);
  timeline_->collect();
}

Seconds CudaDevice::elapsed(Event from, Event to) const {
  const Mark *const first = mark_of(from), *const last = mark_of(to);
  require(first != nullptr && last != nullptr,
          "an event is timed after it was recorded and while it is remembered");
  wait_for(first->event, Seconds(0));
  wait_for(last->event, Seconds(0));
  float milliseconds = 0;
  calls_.check(cudaEventElapsedTime(&milliseconds, first->event, last->event), "cudaEventElapsedTime");
  return Seconds(1e-3 * static_cast<double>(milliseconds));
}

std::optional<double> CudaDevice::peak_flops_per_s(DType type) const {
  return cuda::peak_flops_per_s(cuda::gpu_info(options_.gpu), type);
}

std::vector<std::string> CudaDevice::remarks() const {
  if (libraries_->attention != nullptr) return libraries_->attention->remarks();
  if (options_.attention.text.empty() || !libraries_->misses_cudnn) return {};
  return {"attention goes by " + options_.attention.text};
}

ProductWays* CudaDevice::product_ways() {
  return &libraries_->products;
}

CommunicationTime CudaDevice::communication_time(Event from, Event to) const {
  const Mark *const first = mark_of(from), *const last = mark_of(to);
  require(first != nullptr && last != nullptr,
          "an event is timed after it was recorded and while it is remembered");
  wait_for(first->event, Seconds(0));
  wait_for(last->event, Seconds(0));
  timeline_->collect();
  return timeline_->communication(timeline_->time_of(first->event), timeline_->time_of(last->event));
}

// On the host's queue, which is idle but for copies.
void CudaDevice::align() {
  timeline_->align(stream(Queue::host), [this](cudaEvent_t event) { wait_for(event, Seconds(0)); });
}

void CudaDevice::observe(const std::shared_ptr<Observer>& observer) {
  if (observer != nullptr) align();
  observer_ = observer;
}

cudaEvent_t CudaDevice::begin_of(const Observer::Report& report, Queue queue) {
  return report ? timeline_->record(stream(queue)) : nullptr;
}

void CudaDevice::end_of(cudaEvent_t begin, Observer::Report report, Queue queue) {
  if (begin == nullptr) return;
  timeline_->add(
      {cuda::Timeline::Kind::work, queue, begin, timeline_->record(stream(queue)), std::move(report)});
  timeline_->collect();
}

void CudaDevice::on_record(Event event) {
  Mark& mark = marks_[event.mark % kMarks];
  mark.number = event.mark;
  if (mark.event == nullptr) {
    calls_.check(cudaEventCreateWithFlags(&mark.event, cudaEventDefault), "cudaEventCreateWithFlags");
  }
  calls_.check(cudaEventRecord(mark.event, stream(event.queue)), "cudaEventRecord");
}

void CudaDevice::on_wait(Queue queue, Event event) {
  if (event.ticket == 0) return;
  const bool exposed = queue == Queue::compute && is_communication(event.queue);
  auto* const begin = exposed ? timeline_->record(stream(queue)) : nullptr;
  calls_.check(cudaStreamWaitEvent(stream(queue), event_of(event), 0), "cudaStreamWaitEvent");
  if (!exposed) return;
  Observer::Report report = observer_ != nullptr ? observer_->wait(event.queue) : Observer::Report();
  timeline_->add(
      {cuda::Timeline::Kind::wait, queue, begin, timeline_->record(stream(queue)), std::move(report)});
}

void CudaDevice::on_allocate(Block& block) {
  const DeviceArena::Piece piece = arena_.allocate(block.bytes, block.holder);
  block.address = base_ + piece.offset;
  block.parts().front().written = piece.tickets;
}

void CudaDevice::on_free(const Block& block) {
  arena_.free(static_cast<const std::byte*>(block.address) - base_, block.last_use());
}

void CudaDevice::on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context,
                           Event ticket) {
  LaunchContext given = context;
  given.stream = stream(ticket.queue);
  given.libraries = libraries_.get();
  Observer::Report report = observer_ != nullptr ? observer_->run(call, ticket.queue) : Observer::Report();
  auto* const begin = begin_of(report, ticket.queue);
  try {
    kernel.run(call, given);
  } catch (const SystemError&) {
    // A library fails as all calls do once the GPU has: what failed first is told.
    calls_.check(cudaGetLastError(), call.kind->name);
    throw;
  }
  calls_.check(cudaGetLastError(), call.kind->name);
  end_of(begin, std::move(report), ticket.queue);
  passed(ticket, call.kind->name);
}

void CudaDevice::on_copy(const Tensor& to, const Tensor& from, Event ticket) {
  Observer::Report report = observer_ != nullptr ? observer_->copy(to, ticket.queue) : Observer::Report();
  auto* const begin = begin_of(report, ticket.queue);
  if (from.bytes() > 0) {
    calls_.check(cudaMemcpyAsync(to.data(), from.data(), static_cast<size_t>(from.bytes()),
                                 cudaMemcpyDeviceToDevice, stream(ticket.queue)),
                 "cudaMemcpyAsync");
  }
  end_of(begin, std::move(report), ticket.queue);
  passed(ticket, "copy");
}

void CudaDevice::on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand>,
                             const CollectiveInfo& info, Event ticket) {
  drop_transfers(Verdict::as_known);
  timeline_->collect();
  Observer::Report report =
      observer_ != nullptr ? observer_->transfer(info, ticket.queue) : Observer::Report();
  auto* const begin = timeline_->record(stream(ticket.queue));
  if (!transfer->put_on(stream(ticket.queue))) {
    throw InternalError("a collective (" + info.operation + " of " + info.tensor +
                        ") was issued on a GPU that no library carries out on its stream");
  }
  timeline_->add({cuda::Timeline::Kind::collective, ticket.queue, begin,
                  timeline_->record(stream(ticket.queue)), std::move(report)});
  passed(ticket, "collective");
  transfers_.push_back({ticket, std::move(transfer)});
}

void CudaDevice::drop_transfers(Verdict verdict) {
  std::array<bool, kQueues> goes_on{};  // queues with one that has not passed: later ones have not either
  const auto ended = [&](const UnderWay& one) {
    bool& later = goes_on[static_cast<size_t>(one.ticket.queue)];
    if (later) return false;
    later = !has_passed(event_of(one.ticket));
    if (later) return false;
    // Whoever watches over it has a deadline of its own.
    while (!one.transfer->settled()) {
      if (verdict == Verdict::as_known) return false;
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
    return true;
  };
  // One by one: what was broken off stays where it is, and says so again.
  for (auto one = transfers_.begin(); one != transfers_.end();)
    one = ended(*one) ? transfers_.erase(one) : std::next(one);
}

void CudaDevice::on_write(const Tensor& to, std::span<const std::byte> from, Event ticket) {
  const auto wait = [this](cudaEvent_t event) { wait_for(event, Seconds(0)); };
  const auto chunk = static_cast<size_t>(staging_->chunk_bytes());
  for (size_t first = 0; first < from.size(); first += chunk) {
    const std::span<const std::byte> part = from.subspan(first, std::min(chunk, from.size() - first));
    const std::span<std::byte> piece = staging_->take(static_cast<int64_t>(part.size()), wait);
    std::memcpy(piece.data(), part.data(), part.size());
    calls_.check(cudaMemcpyAsync(to.data() + first, piece.data(), piece.size(), cudaMemcpyHostToDevice,
                                 stream(ticket.queue)),
                 "cudaMemcpyAsync");
    staging_->used_on(stream(ticket.queue));
  }
  passed(ticket, "write");
}

// Never straight into the caller's memory: where the wait ends in an exception, the copy is still to come and
// the caller's memory is gone.
void CudaDevice::on_read(const Tensor& from, std::span<std::byte> to, Event ticket) {
  struct Coming {
    std::span<std::byte> piece;
    cudaEvent_t event = nullptr;
    size_t first = 0;
  };
  std::deque<Coming> coming;
  const auto arrive = [&] {
    const Coming& one = coming.front();
    wait_for(one.event, Seconds(0));
    std::memcpy(to.data() + one.first, one.piece.data(), one.piece.size());
    coming.pop_front();
  };
  constexpr size_t kAhead = 2;  // chunks that are on their way while one is copied
  const auto wait = [this](cudaEvent_t event) { wait_for(event, Seconds(0)); };
  const auto chunk = static_cast<size_t>(staging_->chunk_bytes());
  for (size_t first = 0; first < to.size(); first += chunk) {
    if (coming.size() == kAhead) arrive();
    const size_t bytes = std::min(chunk, to.size() - first);
    const std::span<std::byte> piece = staging_->take(static_cast<int64_t>(bytes), wait);
    calls_.check(cudaMemcpyAsync(piece.data(), from.data() + first, bytes, cudaMemcpyDeviceToHost,
                                 stream(ticket.queue)),
                 "cudaMemcpyAsync");
    coming.push_back({piece, staging_->used_on(stream(ticket.queue)), first});
  }
  passed(ticket, "read");
  while (!coming.empty()) arrive();
  drop_transfers(Verdict::settle);
}

}  // namespace toroid
