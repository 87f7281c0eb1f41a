// The CPU: the compute queue is the calling thread, kernels share one OpenMP team, and what has been issued
// there has run when the call returns. The queues of communication are served by one TransferThread.
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "core/device/cpu/allocator.h"
#include "core/device/cpu/transfer_thread.h"
#include "core/device/device.h"
#include "core/device/observer.h"

namespace toroid {

class CpuDevice final : public Device {
 public:
  // `transfers`: who serves the queues of communication; nullptr where there are no peers. `pages`: where
  // its larger blocks come from; nullptr: from the system.
  explicit CpuDevice(std::shared_ptr<const DeviceKernels> kernels,
                     std::shared_ptr<cpu::TransferThread> transfers = nullptr,
                     std::shared_ptr<cpu::PageSource> pages = nullptr);

  void synchronize(Event event, Seconds deadline) override;
  // InternalError where either was never recorded, or thousands of events ago.
  Seconds elapsed(Event from, Event to) const override;
  std::string_view name() const override { return "cpu"; }

  CommunicationTime communication_time(Event from, Event to) const override;
  void observe(const std::shared_ptr<Observer>& observer) override { observer_ = observer; }

  // Gives memory that is kept for reuse back to the system.
  void trim() { allocator_.trim(); }

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
  // What a recorded event knows; of communication, since the device was made.
  struct Moment {
    std::chrono::steady_clock::time_point time;
    CommunicationTime communication;
  };
  const Moment& moment_of(Event event) const;
  void wait_for(Event event, Seconds deadline);

  // A block that was freed while a queue of communication still used it.
  struct Deferred {
    void* address;
    Tickets last_use;
  };
  bool in_use(const Deferred& block) const;
  void free_deferred();

  std::vector<Deferred> deferred_;
  cpu::CachingAllocator allocator_;
  // Ends before the memory that a transfer still writes into; none where there are no peers.
  std::optional<cpu::TransferQueues> transfers_;
  int64_t memory_;  // bytes that were available when the device was made; 0 where the system does not say
  std::thread::id launcher_ = std::this_thread::get_id();  // has the team; others that read have none
  std::map<uint64_t, Moment> recorded_;                    // by mark
  Seconds exposed_{0};
  std::shared_ptr<Observer> observer_;
};

}  // namespace toroid
