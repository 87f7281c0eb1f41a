#include "core/device/sim/recording_device.h"

#include <algorithm>

namespace toroid {
namespace {

// The registry outlives the recorder with its inner device; nothing is to be deleted here.
std::shared_ptr<const KernelRegistry> borrow(const KernelRegistry& kernels) {
  return {std::shared_ptr<const KernelRegistry>(), &kernels};
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

Record& RecordingDevice::keep(Record::Kind kind, const std::string& text, int64_t bytes, Queue queue) {
  Record& record = records_.emplace_back();
  record.kind = kind;
  record.text = text;
  record.bytes = bytes;
  record.queue = queue;
  return record;
}

void* RecordingDevice::on_allocate(int64_t bytes, const std::string& holder) {
  if (keep_) keep(Record::Kind::allocate, holder, bytes, Queue::compute);
  return inner_ == nullptr ? nullptr : inner_->on_allocate(bytes, holder);
}

void RecordingDevice::on_free(const Block& block) {
  if (keep_) keep(Record::Kind::free, block.holder, block.bytes, Queue::compute);
  if (inner_ != nullptr) inner_->on_free(block);
}

void RecordingDevice::on_launch(const Call& call, const Kernel& kernel, std::byte* workspace, Queue queue) {
  const uint64_t ticket = ++tickets_[static_cast<size_t>(queue)];
  if (!keep_) {
    if (inner_ != nullptr) inner_->on_launch(call, kernel, workspace, queue);
    return;
  }
  Record record;
  if (!keep_waits_) record.text = describe(call);
  record.op = call.kind->name;
  record.cost = call.kind->cost(call);
  record.phase = call.phase;
  record.queue = queue;
  record.ticket = ticket;
  const Stopwatch watch;
  if (inner_ != nullptr) inner_->on_launch(call, kernel, workspace, queue);
  if (timed_) record.time = watch.elapsed();
  records_.push_back(std::move(record));
}

void RecordingDevice::on_copy(const Tensor& to, const Tensor& from, Queue queue) {
  const uint64_t ticket = ++tickets_[static_cast<size_t>(queue)];
  if (keep_) keep(Record::Kind::copy, keep_waits_ ? "" : to.text(), to.bytes(), queue).ticket = ticket;
  if (inner_ != nullptr) inner_->on_copy(to, from, queue);
}

void RecordingDevice::on_transfer(std::unique_ptr<Transfer> transfer, const CollectiveNote& note,
                                  Event ticket) {
  tickets_[static_cast<size_t>(ticket.queue)] = ticket.ticket;
  if (keep_) {
    Record& record = keep(Record::Kind::transfer, note.operation + " " + note.axis + " " + note.tensor,
                          note.bytes, ticket.queue);
    record.op = "collective";
    record.phase = note.phase;
    record.note = note;
    record.ticket = ticket.ticket;
  }
  if (inner_ != nullptr) inner_->on_transfer(std::move(transfer), note, ticket);
}

void RecordingDevice::on_record(Event event) {
  if (inner_ != nullptr) inner_->on_record(event);
}

void RecordingDevice::on_wait(Queue queue, Event event) {
  if (keep_ && keep_waits_) keep(Record::Kind::wait, "", 0, queue).until = event;
  if (inner_ != nullptr) inner_->on_wait(queue, event);
}

void RecordingDevice::on_write(const Tensor& to, std::span<const std::byte> from, Queue queue) {
  ++tickets_[static_cast<size_t>(queue)];
  if (inner_ != nullptr) inner_->on_write(to, from, queue);
}

void RecordingDevice::on_read(const Tensor& from, std::span<std::byte> to) {
  ++tickets_[static_cast<size_t>(Queue::host)];
  if (inner_ != nullptr) {
    inner_->on_read(from, to);
  } else {
    std::fill(to.begin(), to.end(), std::byte{0});
  }
}

}  // namespace toroid
