// What carries out the collectives of GPUs, as far as the build has it.
#pragma once

#include <memory>

#include "core/device/cuda/cuda_device.h"
#include "parallel/comm/world.h"

namespace toroid::train {

// All ranks of `world`, which are several, make it together. UserError in a build without NCCL.
std::shared_ptr<DeviceGroups> make_device_groups(World& world, const CudaDevice& device);

}  // namespace toroid::train
