// In place of with_nccl.cpp where the build has CUDA and no NCCL.
#include <string>

#include "core/base/error.h"
#include "train/engine/cuda/device_groups.h"

namespace toroid::train {

std::shared_ptr<DeviceGroups> make_device_groups(World& world, const CudaDevice&) {
  throw UserError("device is CUDA and there are " + std::to_string(world.size()) +
                  " ranks, but this build has no NCCL, by which GPUs talk to each other; install it beside "
                  "CUDA and build again, or start one rank");
}

std::string device_library_version() {
  return "";
}

NcclRates device_link_rates(int, int64_t, Seconds) {
  throw UserError("this build has no NCCL");
}

}  // namespace toroid::train
