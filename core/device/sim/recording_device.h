// Records what a program issues, in front of any device or of none. Without one it holds no numbers and
// allocates nothing: the same step program then gives the operators, their cost and the memory of a run that
// never ran.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/device/device.h"

namespace toroid {

struct Record {
  enum class Kind : uint8_t { launch, copy, transfer, allocate, free, wait };
  Kind kind = Kind::launch;
  std::string text;  // the call with its operands, or the holder
  std::string_view op;
  Cost cost;
  Phase phase = Phase::forward;
  Queue queue = Queue::compute;
  int64_t bytes = 0;    // of an allocation, a free, a copy or a collective's whole array
  CollectiveNote note;  // of a transfer
  uint64_t ticket = 0;  // of a launch, a copy or a transfer: its number on its queue
  Event until;          // of a wait: `queue` goes on when this has passed
  Seconds time{0};      // where `timed`
};

class RecordingDevice final : public Device {
 public:
  // Prices workspaces and packed sizes as `kernels` would; runs nothing.
  explicit RecordingDevice(std::shared_ptr<const KernelRegistry> kernels)
      : Device(std::move(kernels)), inner_(nullptr) {}
  // Hands everything on to `inner`, which outlives this. `timed` measures each operator (the inner device
  // must run an operator before launch returns, as the CPU's compute queue does).
  explicit RecordingDevice(Device& inner, bool timed = false);

  void synchronize(Event event, Seconds deadline) override;
  Seconds elapsed(Event from, Event to) const override;
  std::string_view name() const override { return inner_ == nullptr ? "recorder" : inner_->name(); }

  // Whether there is a device behind it.
  bool computes() const { return inner_ != nullptr; }
  const std::vector<Record>& records() const { return records_; }
  void clear() { records_.clear(); }
  // Off: calls are only passed on.
  void keep_records(bool keep) { keep_ = keep; }
  // For players: what queues wait for as well, and no texts of operators.
  void keep_waits() { keep_waits_ = true; }

 protected:
  void* on_allocate(int64_t bytes, const std::string& holder) override;
  void on_free(const Block& block) override;
  void on_launch(const Call& call, const Kernel& kernel, std::byte* workspace, Queue queue) override;
  void on_copy(const Tensor& to, const Tensor& from, Queue queue) override;
  void on_transfer(std::unique_ptr<Transfer> transfer, const CollectiveNote& note, Event ticket) override;
  void on_record(Event event) override;
  void on_wait(Queue queue, Event event) override;
  void on_write(const Tensor& to, std::span<const std::byte> from, Queue queue) override;
  void on_read(const Tensor& from, std::span<std::byte> to) override;

 private:
  Record& keep(Record::Kind kind, const std::string& text, int64_t bytes, Queue queue);

  Device* inner_;
  bool timed_ = false, keep_ = true, keep_waits_ = false;
  std::array<uint64_t, kQueues> tickets_{};  // as Device counts them
  std::vector<Record> records_;
};

}  // namespace toroid
