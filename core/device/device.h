// The interface of one chip: memory, operators, queues. CPU, CUDA and the recording (simulated) device
// implement it, each in a folder of its own. One thread issues; every queue runs its entries in order.
// Because operands declare how they are used, launch() inserts the waits that the operands need.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/base/clock.h"
#include "core/device/block.h"
#include "core/device/device_kernels.h"
#include "core/device/product_ways.h"
#include "core/device/transfer.h"
#include "core/op/op.h"

namespace toroid {

class Observer;

struct Statistics {
  int64_t bytes_now = 0, bytes_peak = 0;
  std::map<std::string, int64_t> peak_by_holder;  // at the moment of the peak
  int64_t launches = 0;
};

// `exposed`: the compute queue (on a CPU the thread that issues) waited for a collective. `under_way`: at
// least one was, waits for peers included.
struct CommunicationTime {
  Seconds exposed{0}, under_way{0};
};

class Device {
 public:
  explicit Device(std::shared_ptr<const DeviceKernels> kernels) : kernels_(std::move(kernels)) {}
  virtual ~Device() = default;
  Device(const Device&) = delete;  // blocks point back to their device
  Device& operator=(const Device&) = delete;

  // Memory for `bytes`, at least 64-byte aligned, contents undefined. SystemError when there is not enough.
  Buffer allocate(int64_t bytes, std::string_view holder, Queue home = Queue::compute);
  // A dense array; a packed weight's size is the device's (DeviceTraits::packed_bytes).
  Array array(DType type, Shape shape, std::string_view holder, Layout layout = Layout::plain);

  // Runs `call` after everything its operands wait for. A kind without a kernel here is expanded.
  void launch(const Call& call, Queue queue = Queue::compute);
  // Dense tensors of one type and size.
  void copy(const Tensor& to, const Tensor& from, Queue queue = Queue::compute);
  // Issues a collective on a queue of communication. A device without numbers only takes note of it.
  void transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                const CollectiveInfo& info, Queue queue);
  // The moment when the queue has done what was issued there.
  Event record(Queue queue);
  void wait(Queue queue, Event event);

  // Host to device in the order of `queue`; the bytes are taken before the call returns.
  void write(const Tensor& to, std::span<const std::byte> from, Queue queue = Queue::host);
  // Device to host, blocking: for metrics, checkpoints and tests, never inside a step.
  void read(const Tensor& from, std::span<std::byte> to);

  virtual void synchronize(Event event, Seconds deadline) = 0;
  // Of all that was issued, on any queue.
  void finish(Seconds deadline);
  // Between two recorded events; waits until both have passed.
  virtual Seconds elapsed(Event from, Event to) const = 0;
  bool has_kernel(const OpKind& kind) const { return kernels_->find(kind) != nullptr; }
  const DeviceKernels& kernels() const { return *kernels_; }
  const DeviceTraits& traits() const { return kernels_->traits; }
  const Statistics& statistics();
  void reset_peak();
  // Of memory, that it hands out in all; 0: what the host has.
  virtual int64_t memory_bytes() const { return 0; }
  // FLOP/s of its products by its maker's data sheet; nothing where that is not known of it.
  virtual std::optional<double> peak_flops_per_s(DType) const { return std::nullopt; }
  virtual std::string_view name() const = 0;
  // Between two recorded events; waits until both have passed.
  virtual CommunicationTime communication_time(Event, Event) const { return {}; }
  // Tells `observer` of what is issued from now on; nullptr: nobody. What has passed when synchronize()
  // returns has been reported. A device that cannot tell tells nothing.
  virtual void observe(const std::shared_ptr<Observer>&) {}
  // What its user should know of how it computes so far, a sentence each: what a library has declined.
  virtual std::vector<std::string> remarks() const { return {}; }
  // Of the library that computes its products; nullptr: there is none, or one way of each.
  virtual ProductWays* product_ways() { return nullptr; }

 protected:
  friend class Buffer;
  friend class RecordingDevice;
  // What an implementation supplies. `ticket` is the entry's: what later waits for it names it.
  //
  // Fills in the block's address, nullptr only on a device without numbers. Where others may still be using
  // the memory, it also fills in the tickets that the block's first user has to wait for.
  virtual void on_allocate(Block& block) = 0;
  // In the order of issue; the block's tickets say when its last use is over. Must not wait for that.
  virtual void on_free(const Block& block) = 0;
  virtual void on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context,
                         Event ticket) = 0;
  virtual void on_copy(const Tensor& to, const Tensor& from, Event ticket) = 0;
  virtual void on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                           const CollectiveInfo& info, Event ticket) = 0;
  virtual void on_record(Event event) = 0;
  virtual void on_wait(Queue queue, Event event) = 0;
  virtual void on_write(const Tensor& to, std::span<const std::byte> from, Event ticket) = 0;
  virtual void on_read(const Tensor& from, std::span<std::byte> to, Event ticket) = 0;

 private:
  void free(Block* block);
  void note_peak();
  // The next entry of `queue`, after everything that its operands wait for.
  Event enter(Queue queue, std::span<const Operand> operands);
  void use(Event ticket, std::span<Uses> parts, Access access);

  std::shared_ptr<const DeviceKernels> kernels_;
  Statistics statistics_;
  int64_t noted_peak_ = -1;
  std::map<std::string, int64_t> bytes_by_holder_;
  uint64_t marks_ = 0;
  std::array<uint64_t, kQueues> issued_{};
  std::array<std::array<uint64_t, kQueues>, kQueues> seen_{};  // [waiter][of]: tickets already waited for
};

}  // namespace toroid
