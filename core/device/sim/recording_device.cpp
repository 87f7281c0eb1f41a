#include "core/device/sim/recording_device.h"

#include <algorithm>

namespace toroid {
namespace {

// The registry outlives the recorder with its inner device; nothing is to be deleted here.
std::shared_ptr<const KernelRegistry> borrow(const KernelRegistry& kernels) {
  return {std::shared_ptr<const KernelRegistry>(), &kernels};
}

}  // namespace

std::string_view name_of(Phase phase) {
  static constexpr std::string_view kNames[] = {"forward", "recompute", "backward", "optimizer", "setup"};
  return kNames[static_cast<size_t>(phase)];
}

RecordingDevice::RecordingDevice(Device& inner, bool timed)
    : Device(borrow(inner.kernels())), inner_(&inner), timed_(timed) {}

void RecordingDevice::synchronize(Event event, Seconds deadline) {
  if (inner_ != nullptr) inner_->synchronize(event, deadline);
}

Seconds RecordingDevice::elapsed(Event from, Event to) const {
  return inner_ == nullptr ? Seconds(0) : inner_->elapsed(from, to);
}

void RecordingDevice::keep(Record::Kind kind, const std::string& text, int64_t bytes, Queue queue) {
  if (!keep_) return;
  Record record;
  record.kind = kind;
  record.text = text;
  record.bytes = bytes;
  record.queue = queue;
  records_.push_back(std::move(record));
}

void* RecordingDevice::on_allocate(int64_t bytes, const std::string& holder) {
  keep(Record::Kind::allocate, holder, bytes, Queue::compute);
  return inner_ == nullptr ? nullptr : inner_->on_allocate(bytes, holder);
}

void RecordingDevice::on_free(const Block& block) {
  keep(Record::Kind::free, block.holder, block.bytes, Queue::compute);
  if (inner_ != nullptr) inner_->on_free(block);
}

void RecordingDevice::on_launch(const Call& call, const Kernel& kernel, std::byte* workspace, Queue queue) {
  if (!keep_) {
    if (inner_ != nullptr) inner_->on_launch(call, kernel, workspace, queue);
    return;
  }
  Record record;
  record.text = describe(call);
  record.op = call.kind->name;
  record.cost = call.kind->cost(call);
  record.phase = call.phase;
  record.queue = queue;
  const Stopwatch watch;
  if (inner_ != nullptr) inner_->on_launch(call, kernel, workspace, queue);
  if (timed_) record.time = watch.elapsed();
  records_.push_back(std::move(record));
}

void RecordingDevice::on_copy(const Tensor& to, const Tensor& from, Queue queue) {
  keep(Record::Kind::copy, to.text(), to.bytes(), queue);
  if (inner_ != nullptr) inner_->on_copy(to, from, queue);
}

void RecordingDevice::on_transfer(std::unique_ptr<Transfer> transfer, const CollectiveNote& note,
                                  Event ticket) {
  if (keep_) {
    keep(Record::Kind::transfer, note.operation + " " + note.axis + " " + note.tensor, note.bytes,
         ticket.queue);
    records_.back().op = "collective";
    records_.back().phase = note.phase;
    records_.back().note = note;
  }
  if (inner_ != nullptr) inner_->on_transfer(std::move(transfer), note, ticket);
}

void RecordingDevice::on_record(Event event) {
  if (inner_ != nullptr) inner_->on_record(event);
}

void RecordingDevice::on_wait(Queue queue, Event event) {
  if (inner_ != nullptr) inner_->on_wait(queue, event);
}

void RecordingDevice::on_write(const Tensor& to, std::span<const std::byte> from, Queue queue) {
  if (inner_ != nullptr) inner_->on_write(to, from, queue);
}

void RecordingDevice::on_read(const Tensor& from, std::span<std::byte> to) {
  if (inner_ != nullptr) {
    inner_->on_read(from, to);
  } else {
    std::fill(to.begin(), to.end(), std::byte{0});
  }
}

}  // namespace toroid
