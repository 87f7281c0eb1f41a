// The GPUs of this machine.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/tensor/dtype.h"

namespace toroid::cuda {

// That CUDA sees here: 0 where there is no driver, none plugged in, or CUDA_VISIBLE_DEVICES hides them.
int gpu_count();

// The same; UserError, which says what to do, where there is none, or where the driver is older than this
// program's CUDA.
int require_gpus();

// Where it is plugged in, which tells a host's GPUs apart whatever a process sees of them: "0000:3b:00.0".
// Empty where CUDA does not say.
std::string bus_of(int gpu);

// Whether the first reads and writes the other's memory by itself, over NVLink or PCIe.
bool reaches(int gpu, int peer);

// Makes the GPU the one that this thread's calls go to. UserError, which says what to do, where there is none
// or not that many, where the driver is older than this program's CUDA, or the GPU older than its kernels
// (8.0).
void use_gpu(int gpu);

struct GpuMemory {
  int64_t free = 0, total = 0;
};
// Of the GPU in use.
GpuMemory gpu_memory();

struct Gpu {
  std::string model;       // "NVIDIA H200"; empty where the driver does not say
  std::string bus;         // bus_of()
  std::string capability;  // "9.0"
  int multiprocessors = 0;
};
Gpu gpu_info(int gpu);
// FLOP/s of matrix products by NVIDIA's data sheets: bf16 on tensor cores without sparsity, fp32 without
// TF32. Nothing for a GPU that is not in the table, or is there with other multiprocessors, as a part of one
// is.
std::optional<double> peak_flops_per_s(const Gpu& gpu, DType type);
// What the driver serves at most, and what this program is built with: "13.0". Of a driver that is not there,
// empty.
std::string driver_version();
std::string runtime_version();

}  // namespace toroid::cuda
