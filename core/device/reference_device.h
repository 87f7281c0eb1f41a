// A device in plain C++: host memory, every operator by its reference kernel, every queue the calling thread.
// Slow; the device against which layers and faster devices are tested.
#pragma once

#include <memory>

#include "core/device/device.h"

namespace toroid {

class ReferenceDevice final : public Device {
 public:
  ReferenceDevice();
  // With other kernels, to try some of a device's without the rest of it.
  explicit ReferenceDevice(std::shared_ptr<const DeviceKernels> kernels);

  void synchronize(Event event, Seconds deadline) override;
  Seconds elapsed(Event from, Event to) const override;
  std::string_view name() const override { return "reference"; }

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
};

}  // namespace toroid
