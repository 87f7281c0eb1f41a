// What carries out the collectives of GPUs, as far as the build has it.
#pragma once

#include <memory>
#include <string>

#include "core/device/cuda/cuda_device.h"
#include "parallel/comm/world.h"

namespace toroid::train {

// All ranks of `world`, which are several, make it together. UserError in a build without NCCL.
std::shared_ptr<DeviceGroups> make_device_groups(World& world, const CudaDevice& device);

// Of the library that carries them out: "2.28.9"; empty where the build has none. UserError where it is not
// found.
std::string device_library_version();
// Bytes/s over each GPU's links, by its all_gather and reduce_scatter over the first `gpus` of this host.
struct DeviceLinkRates {
  double gather_bytes_per_s = 0, reduce_bytes_per_s = 0;
};
DeviceLinkRates device_link_rates(int gpus, int64_t bytes, Seconds deadline);

}  // namespace toroid::train
