// GPUs of the stand-ins for CUDA and NCCL, as the program makes devices of them.
#pragma once

#include <memory>

#include "core/device/device.h"
#include "parallel/comm/world.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"
#include "tests/parallel/comm/nccl/stand_in/nccl_stand_in.h"
#include "train/engine/cuda/cuda_maker.h"

namespace toroid::train {

// Of each GPU's memory, as much as a rank takes.
inline constexpr int64_t kGpuBytes = int64_t{192} << 20;

// A machine with so many, until the end of the scope.
class StandInGpus {
 public:
  explicit StandInGpus(int gpus);

 private:
  ::toroid::testing::stand_in::Scope cuda_;
  ::toroid::testing::NcclScope nccl_;
};

// Plugins with `device: CUDA` on those.
Plugins cuda_plugins(int64_t bytes = kGpuBytes);
// A rank's device, whose collectives go over NCCL.
std::unique_ptr<Device> gpu_of(World& world);
std::unique_ptr<Device> gpu_alone();

}  // namespace toroid::train
