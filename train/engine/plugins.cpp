#include "train/engine/plugins.h"

#include "configs/run.pb.h"
#include "core/base/error.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "parallel/comm/world.h"

namespace toroid::train {

Plugins::Plugins() {
  devices["CPU"] = {[](int threads, Bf16Products products) { return make_cpu_kernels(threads, products); },
                    [](std::shared_ptr<const DeviceKernels> kernels, World* world) {
                      return std::make_unique<CpuDevice>(std::move(kernels),
                                                         world != nullptr ? world->transfers() : nullptr,
                                                         world != nullptr ? world->pages() : nullptr);
                    }};
}

const DeviceMaker& Plugins::device(const config::RunConfig& run) const {
  const std::string& name = config::RunConfig::Device_Name(run.device());
  const auto found = devices.find(name);
  if (found != devices.end()) return found->second;
  std::string names;
  for (const auto& [known, maker] : devices) names += (names.empty() ? "" : ", ") + known;
  throw UserError("device is " + name + ", which nothing is run on here; set it to one of: " + names);
}

void Plugins::check(const config::RunConfig& run) const {
  (void)optimizers.make(run.optim());
  (void)schedules.make(run.optim().schedule());
  (void)objectives.make(run.train().objective());
}

}  // namespace toroid::train
