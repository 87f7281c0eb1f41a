#include "train/engine/plugins.h"

#include "configs/run.pb.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"

namespace toroid::train {

Plugins::Plugins()
    : cpu_kernels([](int threads, Bf16Products products) { return make_cpu_kernels(threads, products); }),
      device([](std::shared_ptr<const DeviceKernels> kernels, const DeviceLinks& links) {
        return std::make_unique<CpuDevice>(std::move(kernels), links.transfers, links.pages);
      }) {}

std::unique_ptr<Device> Plugins::device_alone(int threads, Bf16Products products) const {
  return device(cpu_kernels(threads, products), {});
}

void Plugins::check(const config::RunConfig& run) const {
  (void)optimizers.make(run.optim());
  (void)schedules.make(run.optim().schedule());
}

}  // namespace toroid::train
