#include "core/device/cpu/cpu_device.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/cpu/host_info.h"
#include "core/device/cpu/parallel.h"

namespace toroid {
namespace {

constexpr size_t kEventsKept = 65536;  // many steps' worth

bool is_communication(Queue queue) {
  return queue != Queue::compute && queue != Queue::host;
}

using Clock = std::chrono::steady_clock;

void copy_bytes(std::byte* to, const std::byte* from, int64_t bytes, int threads) {
  if (bytes == 0) return;
  cpu::parallel_ranges(bytes, 4096, 2 * bytes, threads, [=](cpu::Range range) {
    std::memcpy(to + range.first, from + range.first, static_cast<size_t>(range.size()));
  });
}

// Reports the transfer in it.
class ObservedTransfer final : public Transfer {
 public:
  ObservedTransfer(std::unique_ptr<Transfer> inner, Observer::Report report)
      : inner_(std::move(inner)), report_(std::move(report)) {}
  bool advance() override {
    if (!begin_) begin_ = Clock::now();
    if (!inner_->advance()) return false;
    report_({*begin_, Clock::now()});
    return true;
  }
  bool rings() const override { return inner_->rings(); }

 private:
  std::unique_ptr<Transfer> inner_;
  Observer::Report report_;
  std::optional<Clock::time_point> begin_;
};

}  // namespace

CpuDevice::CpuDevice(std::shared_ptr<const DeviceKernels> kernels,
                     std::shared_ptr<cpu::TransferThread> transfers, std::shared_ptr<cpu::PageSource> pages)
    : Device(std::move(kernels)), allocator_(std::move(pages)), memory_(available_memory()) {
  if (transfers != nullptr) transfers_.emplace(std::move(transfers));
}

void CpuDevice::synchronize(Event event, Seconds deadline) {
  if (is_communication(event.queue) && transfers_) wait_for(event, deadline);
}

void CpuDevice::wait_for(Event event, Seconds deadline) {
  if (transfers_->done(event)) return;
  const Clock::time_point begin = Clock::now();
  transfers_->wait(event, deadline);
  const Clock::time_point end = Clock::now();
  exposed_ += end - begin;
  if (observer_ != nullptr) observer_->wait(event.queue)({begin, end});
}

CommunicationTime CpuDevice::communication_time(Event from, Event to) const {
  const CommunicationTime &before = moment_of(from).communication, &now = moment_of(to).communication;
  return {now.exposed - before.exposed, now.under_way - before.under_way};
}

void CpuDevice::on_wait(Queue queue, Event event) {
  // Whatever was issued on the calling thread has run.
  if (!is_communication(event.queue) || !transfers_) return;
  if (is_communication(queue)) {
    transfers_->enqueue_wait(queue, event);
  } else {
    wait_for(event, Seconds(0));
  }
}

void CpuDevice::on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand>,
                            const CollectiveInfo& info, Event ticket) {
  if (!transfers_) {
    throw InternalError("a collective (" + info.operation + " of " + info.tensor +
                        ") was issued on a device without peers");
  }
  if (observer_ != nullptr) {
    transfer =
        std::make_unique<ObservedTransfer>(std::move(transfer), observer_->transfer(info, ticket.queue));
  }
  transfers_->enqueue(ticket, std::move(transfer));
}

void CpuDevice::on_record(Event event) {
  const CommunicationTime communication{exposed_, !transfers_ ? Seconds(0) : transfers_->under_way()};
  const bool fresh = recorded_.emplace(event.mark, Moment{Clock::now(), communication}).second;
  require(fresh, "each recorded event has a mark of its own");
  if (recorded_.size() > kEventsKept) recorded_.erase(recorded_.begin());
}

const CpuDevice::Moment& CpuDevice::moment_of(Event event) const {
  const auto found = recorded_.find(event.mark);
  require(found != recorded_.end(), "an event is timed after it was recorded and while it is remembered");
  return found->second;
}

Seconds CpuDevice::elapsed(Event from, Event to) const {
  return moment_of(to).time - moment_of(from).time;
}

void CpuDevice::on_allocate(Block& block) {
  if (!deferred_.empty()) free_deferred();
  // Linux promises more memory than it has and kills the process that believes it, so what this device holds
  // is kept within what was available when it was made.
  if (memory_ > 0 && allocator_.live_bytes() + block.bytes > memory_) {
    throw SystemError("not enough memory: " + human_bytes(block.bytes) + " for " + block.holder +
                      " on top of " + human_bytes(allocator_.live_bytes()) + ", but this machine had only " +
                      human_bytes(memory_) + " available");
  }
  block.address = allocator_.allocate(block.bytes);
  if (block.address == nullptr) {
    throw SystemError("not enough memory: the system refused " + human_bytes(block.bytes) + " for " +
                      block.holder);
  }
}

bool CpuDevice::in_use(const Deferred& block) const {
  for (size_t queue = 0; queue < kQueues; ++queue) {
    const Event last{static_cast<Queue>(queue), block.last_use[queue]};
    if (is_communication(last.queue) && last.ticket > 0 && !transfers_->done(last)) return true;
  }
  return false;
}

void CpuDevice::on_free(const Block& block) {
  const Deferred freed{block.address, block.last_use()};
  if (transfers_ && in_use(freed)) {
    deferred_.push_back(freed);
  } else {
    allocator_.free(freed.address);
  }
}

void CpuDevice::free_deferred() {
  std::erase_if(deferred_, [this](const Deferred& block) {
    if (in_use(block)) return false;
    allocator_.free(block.address);
    return true;
  });
}

void CpuDevice::on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context,
                          Event ticket) {
  require(!is_communication(ticket.queue), "the CPU runs operators on its calling thread");
  if (observer_ == nullptr) {
    kernel.run(call, context);
    return;
  }
  const Clock::time_point begin = Clock::now();
  kernel.run(call, context);
  const Clock::time_point end = Clock::now();
  observer_->run(call, Queue::compute)({begin, end});
}

void CpuDevice::on_copy(const Tensor& to, const Tensor& from, Event ticket) {
  require(!is_communication(ticket.queue), "the CPU copies on its calling thread");
  const Clock::time_point begin = observer_ == nullptr ? Clock::time_point() : Clock::now();
  copy_bytes(to.data(), from.data(), from.bytes(), traits().threads);
  if (observer_ == nullptr) return;
  const Clock::time_point end = Clock::now();
  observer_->copy(to, Queue::compute)({begin, end});
}

void CpuDevice::on_write(const Tensor& to, std::span<const std::byte> from, Event) {
  if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
}

void CpuDevice::on_read(const Tensor& from, std::span<std::byte> to, Event) {
  const bool team = std::this_thread::get_id() == launcher_;
  copy_bytes(to.data(), from.data(), from.bytes(), team ? traits().threads : 1);
}

}  // namespace toroid
