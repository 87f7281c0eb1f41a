#include "parallel/comm/nccl/nccl_groups.h"
#include "train/engine/cuda/device_groups.h"

namespace toroid::train {

std::shared_ptr<DeviceGroups> make_device_groups(World& world, const CudaDevice& device) {
  NcclGroups::Options options;
  options.gpu = device.gpu();
  options.memory = device.memory();
  options.deadline = world.deadline();
  return std::make_shared<NcclGroups>(world, options);
}

std::string device_library_version() {
  return nccl_version();
}

NcclRates device_link_rates(int gpus, int64_t bytes, Seconds deadline) {
  return measure_nccl(gpus, bytes, deadline);
}

}  // namespace toroid::train
