#include "core/device/sim/recording_device.h"

#include <algorithm>
#include <bit>

#include "core/base/error.h"

namespace toroid {
namespace {

// The registry outlives the recorder with its inner device; nothing is to be deleted here.
std::shared_ptr<const DeviceKernels> borrow(const DeviceKernels& kernels) {
  return {std::shared_ptr<const DeviceKernels>(), &kernels};
}

}  // namespace

RecordingDevice::RecordingDevice(Device& inner, bool timed)
    : Device(borrow(inner.kernels())), inner_(&inner), timed_(timed) {}

void RecordingDevice::synchronize(Event event, Seconds deadline) {
  if (inner_ != nullptr) inner_->synchronize(event, deadline);
}

Seconds RecordingDevice::elapsed(Event from, Event to) const {
  return inner_ == nullptr ? Seconds(0) : inner_->elapsed(from, to);
}

void RecordingDevice::keep_records(bool keep, size_t expected) {
  records_.reserve(records_.size() + expected);
  keep_ = keep;
}

void RecordingDevice::follow(Phase until, bool then_keep) {
  following_ = true;
  then_keep_ = then_keep;
  until_ = until;
  followed_ = {};
  mix(static_cast<uint64_t>(statistics().bytes_now), 0);
}

// A step of FNV-1a over words, with a rotation that brings high bits down.
void RecordingDevice::mix(uint64_t first, uint64_t second) {
  constexpr uint64_t kPrime = 0x100000001b3;
  uint64_t& digest = followed_.digest;
  digest = std::rotl((digest ^ first) * kPrime, 29);
  digest = std::rotl((digest ^ second) * kPrime, 29);
}

Tickets RecordingDevice::issued() {
  Tickets out{};
  for (size_t queue = 0; queue < kQueues; ++queue) out[queue] = record(static_cast<Queue>(queue)).ticket;
  return out;
}

void RecordingDevice::end_following() {
  following_ = false;
  followed_.records = records_.size();
  followed_.ended = true;
  keep_ = keep_ || then_keep_;
}

Record& RecordingDevice::keep(Record::Kind kind, int64_t bytes, Queue queue) {
  Record& record = records_.emplace_back();
  record.kind = kind;
  record.bytes = bytes;
  record.queue = queue;
  return record;
}

CommunicationTime RecordingDevice::communication_time(Event from, Event to) const {
  return inner_ == nullptr ? CommunicationTime{} : inner_->communication_time(from, to);
}

void RecordingDevice::observe(const std::shared_ptr<Observer>& observer) {
  if (inner_ != nullptr) inner_->observe(observer);
}

void RecordingDevice::place_memory() {
  constexpr int64_t kEndless = int64_t{1} << 60;
  require(inner_ == nullptr && statistics().bytes_now == 0,
          "a recorder places memory alone, from the first block on");
  arena_.emplace(kEndless, traits().memory_unit);
}

void RecordingDevice::on_allocate(Block& block) {
  note(Record::Kind::allocate, block.home, static_cast<uint64_t>(block.bytes));
  if (keeps()) keep(Record::Kind::allocate, block.bytes, Queue::compute).text = block.holder;
  if (inner_ != nullptr) inner_->on_allocate(block);
  if (!arena_) return;
  const DeviceArena::Piece piece = arena_->allocate(block.bytes, block.holder);
  block.offset = piece.offset;
  block.parts().front().written = piece.tickets;
}

void RecordingDevice::on_free(const Block& block) {
  note(Record::Kind::free, block.home, static_cast<uint64_t>(block.bytes));
  if (keeps()) keep(Record::Kind::free, block.bytes, Queue::compute).text = block.holder;
  if (inner_ != nullptr) inner_->on_free(block);
  if (block.offset >= 0) arena_->free(block.offset, block.last_use());
}

void RecordingDevice::run(const Call& call, const Kernel& kernel, const LaunchContext& context,
                          Event ticket) {
  if (inner_ == nullptr) return;
  const auto once = [&] { inner_->on_launch(call, kernel, context, ticket); };
  if (around_) {
    around_(call, ticket.queue, once);
  } else {
    once();
  }
}

void RecordingDevice::on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context,
                                Event ticket) {
  if (following_ && call.phase == until_) end_following();
  if (following_) {
    note(Record::Kind::launch, ticket.queue, reinterpret_cast<uintptr_t>(call.kind));
    for (const Operand& operand : call.operands) {
      const Tensor& tensor = operand.tensor;
      mix(static_cast<uint64_t>(tensor ? tensor.extent_bytes() : 0), static_cast<uint64_t>(tensor.type));
    }
  }
  if (!keeps()) return run(call, kernel, context, ticket);
  Record& record = keep(Record::Kind::launch, 0, ticket.queue);
  if (!keep_waits_) record.text = describe(call);
  record.op = call.kind->name;
  record.cost = call.kind->cost(call);
  record.phase = call.phase;
  record.ticket = ticket.ticket;
  const Event before = timed_ ? this->record(ticket.queue) : Event{};
  run(call, kernel, context, ticket);
  if (timed_) record.time = elapsed(before, this->record(ticket.queue));
}

void RecordingDevice::on_copy(const Tensor& to, const Tensor& from, Event ticket) {
  note(Record::Kind::copy, ticket.queue, static_cast<uint64_t>(to.bytes()));
  if (keeps()) {
    Record& record = keep(Record::Kind::copy, to.bytes(), ticket.queue);
    if (!keep_waits_) record.text = to.text();
    record.ticket = ticket.ticket;
  }
  if (inner_ != nullptr) inner_->on_copy(to, from, ticket);
}

void RecordingDevice::on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                                  const CollectiveInfo& info, Event ticket) {
  if (following_ && info.phase == until_) end_following();
  note(Record::Kind::transfer, ticket.queue, static_cast<uint64_t>(info.wire_bytes));
  if (keeps()) {
    Record& record = keep(Record::Kind::transfer, info.bytes, ticket.queue);
    if (!keep_waits_) record.text = info.operation + " " + info.axis + " " + info.tensor;
    record.op = "collective";
    record.phase = info.phase;
    record.info = std::make_shared<CollectiveInfo>(info);
    record.ticket = ticket.ticket;
  }
  if (inner_ != nullptr) inner_->on_transfer(std::move(transfer), operands, info, ticket);
}

void RecordingDevice::on_record(Event event) {
  if (inner_ != nullptr) inner_->on_record(event);
}

void RecordingDevice::on_wait(Queue queue, Event event) {
  // By how long ago it was: numbers as such depend on what was issued before.
  if (following_) note(Record::Kind::wait, queue, record(event.queue).ticket - event.ticket);
  if (keep_waits_ && keeps()) keep(Record::Kind::wait, 0, queue).until = event;
  if (inner_ != nullptr) inner_->on_wait(queue, event);
}

void RecordingDevice::on_write(const Tensor& to, std::span<const std::byte> from, Event ticket) {
  if (inner_ != nullptr) inner_->on_write(to, from, ticket);
}

void RecordingDevice::on_read(const Tensor& from, std::span<std::byte> to, Event ticket) {
  if (inner_ != nullptr) {
    inner_->on_read(from, to, ticket);
  } else {
    std::fill(to.begin(), to.end(), std::byte{0});
  }
}

}  // namespace toroid
