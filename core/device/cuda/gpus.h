// The GPUs of this machine.
#pragma once

#include <cstdint>

namespace toroid::cuda {

// That CUDA sees here: 0 where there is no driver, none plugged in, or CUDA_VISIBLE_DEVICES hides them.
int gpu_count();

// Makes the GPU the one that this thread's calls go to. UserError, which says what to do, where there is none
// or not that many, where the driver is older than this program's CUDA, or the GPU older than its kernels
// (8.0).
void use_gpu(int gpu);

struct GpuMemory {
  int64_t free = 0, total = 0;
};
// Of the GPU in use.
GpuMemory gpu_memory();

}  // namespace toroid::cuda
