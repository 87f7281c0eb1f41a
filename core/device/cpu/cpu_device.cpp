#include "core/device/cpu/cpu_device.h"

#include <cstring>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/device/cpu/host_info.h"
#include "core/device/cpu/parallel.h"

namespace toroid {
namespace {

constexpr size_t kEventsKept = 8192;  // of a queue: many steps' worth

}  // namespace

CpuDevice::CpuDevice(std::shared_ptr<const KernelRegistry> kernels)
    : Device(std::move(kernels)), memory_(available_memory()) {}

void CpuDevice::synchronize(Event, Seconds) {}
void CpuDevice::on_wait(Queue, Event) {}

void CpuDevice::on_record(Event event) {
  auto& times = recorded_[static_cast<size_t>(event.queue)];
  times.emplace(event.ticket, std::chrono::steady_clock::now());
  if (times.size() > kEventsKept) times.erase(times.begin());
}

CpuDevice::Time CpuDevice::time_of(Event event) const {
  const auto& times = recorded_[static_cast<size_t>(event.queue)];
  const auto found = times.find(event.ticket);
  require(found != times.end(), "an event is timed after it was recorded and while it is remembered");
  return found->second;
}

Seconds CpuDevice::elapsed(Event from, Event to) const {
  return time_of(to) - time_of(from);
}

void* CpuDevice::on_allocate(int64_t bytes, const std::string& holder) {
  // Linux promises more memory than it has and kills the process that believes it, so what this device holds
  // is kept within what was available when it was made.
  if (memory_ > 0 && allocator_.live_bytes() + bytes > memory_) {
    throw SystemError("not enough memory: " + human_bytes(bytes) + " for " + holder + " on top of " +
                      human_bytes(allocator_.live_bytes()) + ", but this machine had only " +
                      human_bytes(memory_) + " available");
  }
  void* const address = allocator_.allocate(bytes);
  if (address == nullptr) {
    throw SystemError("not enough memory: the system refused " + human_bytes(bytes) + " for " + holder);
  }
  return address;
}

void CpuDevice::on_free(void* address, int64_t, const std::string&) {
  allocator_.free(address);
}

void CpuDevice::on_launch(const Call& call, const Kernel& kernel, std::byte* workspace, Queue) {
  kernel.run(call, workspace, kernels().threads());
}

void CpuDevice::on_copy(const Tensor& to, const Tensor& from, Queue) {
  std::byte *const target = to.data(), *const source = from.data();
  cpu::parallel_ranges(from.bytes(), 4096, 2 * from.bytes(), kernels().threads(), [=](cpu::Range range) {
    std::memcpy(target + range.first, source + range.first, static_cast<size_t>(range.size()));
  });
}

void CpuDevice::on_write(const Tensor& to, std::span<const std::byte> from, Queue) {
  if (!from.empty()) std::memcpy(to.data(), from.data(), from.size());
}

void CpuDevice::on_read(const Tensor& from, std::span<std::byte> to) {
  if (!to.empty()) std::memcpy(to.data(), from.data(), to.size());
}

}  // namespace toroid
