// The interface of one chip: memory, operators, queues. CPU, CUDA and the recording (simulated) device
// implement it, each in a folder of its own. One thread issues; every queue runs its entries in order.
// Because operands declare how they are used, launch() inserts the waits that the operands need.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/base/clock.h"
#include "core/device/block.h"
#include "core/device/transfer.h"
#include "core/op/op.h"

namespace toroid {

struct Statistics {
  int64_t bytes_now = 0, bytes_peak = 0;
  std::map<std::string, int64_t> peak_by_holder;  // at the moment of the peak
  int64_t launches = 0;
};

class Device {
 public:
  explicit Device(std::shared_ptr<const KernelRegistry> kernels) : kernels_(std::move(kernels)) {}
  virtual ~Device() = default;
  Device(const Device&) = delete;  // blocks point back to their device
  Device& operator=(const Device&) = delete;

  // Memory for `bytes`, at least 64-byte aligned, contents undefined. SystemError when there is not enough.
  Buffer allocate(int64_t bytes, std::string_view holder, Queue home = Queue::compute);
  // A dense array; a packed weight's size is the device's (packed_bytes).
  Array array(DType type, Shape shape, std::string_view holder, Layout layout = Layout::plain);

  // Runs `call` after everything its operands wait for. A kind without a kernel here is expanded.
  void launch(const Call& call, Queue queue = Queue::compute);
  // Dense tensors of one type and size.
  void copy(const Tensor& to, const Tensor& from, Queue queue = Queue::compute);
  // Issues a collective on a queue of communication. A device without numbers only takes note of it.
  void transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand> operands,
                const CollectiveNote& note, Queue queue);
  Event record(Queue queue);
  void wait(Queue queue, Event event);

  // Host to device in the order of `queue`; the bytes are taken before the call returns.
  void write(const Tensor& to, std::span<const std::byte> from, Queue queue = Queue::host);
  // Device to host, blocking: for metrics, checkpoints and tests, never inside a step.
  void read(const Tensor& from, std::span<std::byte> to);

  virtual void synchronize(Event event, Seconds deadline) = 0;
  virtual Seconds elapsed(Event from, Event to) const = 0;
  bool has_kernel(const OpKind& kind) const { return kernels_->find(kind) != nullptr; }
  int64_t packed_bytes(DType type, const Shape& shape, Layout layout) const {
    return kernels_->packed_bytes(type, shape, layout);
  }
  const KernelRegistry& kernels() const { return *kernels_; }
  const Statistics& statistics();
  void reset_peak();
  virtual std::string_view name() const = 0;
  // Whether Tensor::data() is memory that the host may read once a queue is synchronized.
  virtual bool host_addressable() const { return false; }

 protected:
  friend class Buffer;
  friend class RecordingDevice;
  // What an implementation supplies. on_allocate returns nullptr only on a device without numbers.
  virtual void* on_allocate(int64_t bytes, const std::string& holder) = 0;
  // Takes effect once every queue that uses the block has passed its last use.
  virtual void on_free(const Block& block) = 0;
  virtual void on_launch(const Call& call, const Kernel& kernel, std::byte* workspace, Queue queue) = 0;
  virtual void on_copy(const Tensor& to, const Tensor& from, Queue queue) = 0;
  // `ticket` is done when the transfer is.
  virtual void on_transfer(std::unique_ptr<Transfer> transfer, const CollectiveNote& note, Event ticket) = 0;
  virtual void on_record(Event event) = 0;
  virtual void on_wait(Queue queue, Event event) = 0;
  virtual void on_write(const Tensor& to, std::span<const std::byte> from, Queue queue) = 0;
  virtual void on_read(const Tensor& from, std::span<std::byte> to) = 0;

 private:
  void free(Block* block);
  void note_peak();
  void order(Queue queue, std::span<const Operand> operands);

  std::shared_ptr<const KernelRegistry> kernels_;
  Statistics statistics_;
  int64_t noted_peak_ = -1;
  std::map<std::string, int64_t> bytes_by_holder_;
  std::array<uint64_t, kQueues> issued_{};
  std::array<std::array<uint64_t, kQueues>, kQueues> seen_{};  // [waiter][of]: tickets already waited for
};

}  // namespace toroid
