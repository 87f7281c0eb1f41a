// The CPU: the compute queue is the calling thread, kernels share one OpenMP team, and whatever has been
// issued has run when the call returns. (The queues of communication get their own thread with the first
// Communicator that needs one.)
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <memory>

#include "core/device/cpu/allocator.h"
#include "core/device/device.h"

namespace toroid {

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(std::shared_ptr<const KernelRegistry> kernels);

  void synchronize(Event event, Seconds deadline) override;
  // Between two recorded events; InternalError where either was never recorded, or thousands of events ago.
  Seconds elapsed(Event from, Event to) const override;
  std::string_view name() const override { return "cpu"; }
  bool host_addressable() const override { return true; }

  // Gives memory that is kept for reuse back to the system.
  void trim() { allocator_.trim(); }

 protected:
  void* on_allocate(int64_t bytes, const std::string& holder) override;
  void on_free(void* address, int64_t bytes, const std::string& holder) override;
  void on_launch(const Call& call, const Kernel& kernel, std::byte* workspace, Queue queue) override;
  void on_copy(const Tensor& to, const Tensor& from, Queue queue) override;
  void on_record(Event event) override;
  void on_wait(Queue queue, Event event) override;
  void on_write(const Tensor& to, std::span<const std::byte> from, Queue queue) override;
  void on_read(const Tensor& from, std::span<std::byte> to) override;

 private:
  using Time = std::chrono::steady_clock::time_point;
  Time time_of(Event event) const;

  cpu::CachingAllocator allocator_;
  int64_t memory_;  // bytes that were available when the device was made; 0 where the system does not say
  std::array<std::map<uint64_t, Time>, kQueues> recorded_;  // by ticket
};

}  // namespace toroid
