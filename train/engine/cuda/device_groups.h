// What carries out the collectives of GPUs, as far as the build has it.
#pragma once

#include <memory>
#include <string>

#include "core/device/cuda/cuda_device.h"
#include "parallel/comm/nccl/nccl_rates.h"
#include "parallel/comm/world.h"

namespace toroid::train {

// All ranks of `world`, which are several, make it together. UserError in a build without NCCL.
std::shared_ptr<DeviceGroups> make_device_groups(World& world, const CudaDevice& device);

// Of the library that carries them out: "2.28.9"; empty where the build has none. UserError where it is not
// found.
std::string device_library_version();
// measure_nccl(), or in a build without NCCL a UserError.
NcclRates device_link_rates(int gpus, int64_t bytes, Seconds deadline);

}  // namespace toroid::train
