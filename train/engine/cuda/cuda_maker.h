// NVIDIA GPUs as a kind of device: one rank a GPU, collectives over NCCL.
#pragma once

#include <cstdint>

#include "train/engine/plugins.h"

namespace toroid::train {

// `gpu_bytes` of each GPU's memory; 0: what is free there. Its kernels are known without a GPU, and for what
// they take in a build without CUDA too. Making a device is a UserError where this rank has none that can be
// used (gpu_choice.h), or where the build has no CUDA.
DeviceMaker cuda_maker(int64_t gpu_bytes = 0);

}  // namespace toroid::train
