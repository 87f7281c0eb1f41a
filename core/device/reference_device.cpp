#include "core/device/reference_device.h"

#include <cstring>
#include <new>
#include <thread>

#include "core/base/error.h"

namespace toroid {
namespace {

constexpr std::align_val_t kAlignment{64};

std::shared_ptr<const DeviceKernels> reference_kernels() {
  auto kernels = std::make_shared<DeviceKernels>();
  add_reference_kernels(*kernels);
  return kernels;
}

}  // namespace

ReferenceDevice::ReferenceDevice() : Device(reference_kernels()) {}
ReferenceDevice::ReferenceDevice(std::shared_ptr<const DeviceKernels> kernels) : Device(std::move(kernels)) {}

// Every entry of every queue has run when its call returns: there is nothing to wait for and nothing to time.
void ReferenceDevice::synchronize(Event, Seconds) {}
Seconds ReferenceDevice::elapsed(Event, Event) const {
  return Seconds(0);
}
void ReferenceDevice::on_record(Event) {}
void ReferenceDevice::on_wait(Queue, Event) {}

void ReferenceDevice::on_allocate(Block& block) {
  // Never null, so that an empty tensor has an address.
  const size_t size = block.bytes > 0 ? static_cast<size_t>(block.bytes) : 1;
  block.address = ::operator new(size, kAlignment, std::nothrow);
  if (block.address == nullptr) {
    throw SystemError("no memory for " + std::to_string(block.bytes) + " bytes of " + block.holder);
  }
}

void ReferenceDevice::on_free(const Block& block) {
  ::operator delete(block.address, kAlignment);
}

void ReferenceDevice::on_launch(const Call& call, const Kernel& kernel, const LaunchContext& context, Event) {
  kernel.run(call, context);
}

void ReferenceDevice::on_copy(const Tensor& to, const Tensor& from, Event) {
  std::memmove(to.data(), from.data(), static_cast<size_t>(from.bytes()));
}

void ReferenceDevice::on_transfer(std::unique_ptr<Transfer> transfer, std::span<const Operand>,
                                  const CollectiveInfo&, Event) {
  while (!transfer->advance()) std::this_thread::yield();
}

void ReferenceDevice::on_write(const Tensor& to, std::span<const std::byte> from, Event) {
  if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
}

void ReferenceDevice::on_read(const Tensor& from, std::span<std::byte> to, Event) {
  if (!to.empty()) std::memcpy(to.data(), from.data(), to.size());
}

}  // namespace toroid
