// Records what a program issues, in front of any device or of none. Without one it holds no numbers and
// allocates nothing: the same step program then gives the operators, their cost and the memory of a run that
// never ran.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/device/arena.h"
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
  int64_t bytes = 0;  // of an allocation, a free, a copy or a collective's whole array
  std::shared_ptr<const CollectiveInfo> info;  // of a transfer
  uint64_t ticket = 0;                         // of a launch, a copy or a transfer: its number on its queue
  Event until;                                 // of a wait: `queue` goes on when this has passed
  Seconds time{0};                             // where `timed`
};

class RecordingDevice final : public Device {
 public:
  // Prices workspaces and packed sizes as `kernels` would; runs nothing.
  explicit RecordingDevice(std::shared_ptr<const DeviceKernels> kernels)
      : Device(std::move(kernels)), inner_(nullptr) {}
  // Hands everything on to `inner`, which outlives this. `timed` measures each operator by the device's
  // events, and waits for each.
  explicit RecordingDevice(Device& inner, bool timed = false);

  void synchronize(Event event, Seconds deadline) override;
  Seconds elapsed(Event from, Event to) const override;
  CommunicationTime communication_time(Event from, Event to) const override;
  void observe(const std::shared_ptr<Observer>& observer) override;
  int64_t memory_bytes() const override { return inner_ == nullptr ? 0 : inner_->memory_bytes(); }
  std::optional<double> peak_flops_per_s(DType type) const override {
    return inner_ == nullptr ? std::nullopt : inner_->peak_flops_per_s(type);
  }
  std::vector<std::string> remarks() const override {
    return inner_ == nullptr ? std::vector<std::string>() : inner_->remarks();
  }
  ProductWays* product_ways() override { return inner_ == nullptr ? nullptr : inner_->product_ways(); }
  std::string_view name() const override { return inner_ == nullptr ? "recorder" : inner_->name(); }

  // What is done about each launch from now on, in place of one on the device behind this one: `run` launches
  // there, as often as it is called, which is at least once. It may record and time events of this device.
  using Around = std::function<void(const Call& call, Queue queue, const std::function<void()>& run)>;
  void around_launches(Around around) { around_ = std::move(around); }

  // Whether there is a device behind it.
  bool computes() const { return inner_ != nullptr; }
  const std::vector<Record>& records() const { return records_; }
  std::vector<Record> take_records() { return std::exchange(records_, {}); }
  void clear() { records_.clear(); }
  // Calls so far that have a record, or would have if they were kept.
  size_t calls() const { return calls_; }
  // Off: calls are only passed on. `expected` of the records that follow have their place before they come.
  void keep_records(bool keep, size_t expected = 0);
  // What was issued from follow() on, up to the first operator or collective of a phase.
  struct Followed {
    uint64_t digest = 0;  // of all calls and of the memory held: equal where the same was issued
    size_t records = 0;   // that were kept until then
    bool ended = false;   // that phase has begun
  };
  // `then_keep`: records are kept from there on.
  void follow(Phase until, bool then_keep = false);
  const Followed& followed() const { return followed_; }
  // The last one of each queue.
  Tickets issued();
  // For players: what queues wait for as well, and no texts.
  void keep_waits() { keep_waits_ = true; }
  // Places what is allocated as a device that runs ahead does: memory that is handed out again makes its next
  // user wait for its last ones. Without a device behind it, and before the first allocation. There is no end
  // of the memory; how much of it was ever used is what such a device needs.
  void place_memory();
  // Up to the highest byte that was ever used, gaps between blocks included.
  int64_t placed_peak() const { return arena_ ? arena_->reached() : 0; }

 protected:
  void on_allocate(Block& block) override;
  void on_free(const Block& block) override;
  void on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context, Event ticket) override;
  void on_copy(const Tensor& to, const Tensor& from, Event ticket) override;
  void on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                   const CollectiveInfo& info, Event ticket) override;
  void on_record(Event event) override;
  void on_wait(Queue queue, Event event) override;
  void on_write(const Tensor& to, std::span<const std::byte> from, Event ticket) override;
  void on_read(const Tensor& from, std::span<std::byte> to, Event ticket) override;

 private:
  bool keeps() {
    ++calls_;
    return keep_;
  }
  // Of a call, what tells it from others: its record's kind, queue, and more.
  void note(Record::Kind kind, Queue queue, uint64_t what) {
    if (following_) mix(static_cast<uint64_t>(kind) << 8 | static_cast<uint64_t>(queue), what);
  }
  void mix(uint64_t first, uint64_t second);
  void end_following();
  Record& keep(Record::Kind kind, int64_t bytes, Queue queue);
  void run(const Call& call, const Kernel& kernel, const LaunchContext& context, Event ticket);

  Device* inner_;
  Around around_;
  bool timed_ = false, keep_ = true, keep_waits_ = false;
  bool following_ = false, then_keep_ = false;
  Phase until_{};
  Followed followed_;
  std::optional<DeviceArena> arena_;
  size_t calls_ = 0;
  std::vector<Record> records_;
};

}  // namespace toroid
