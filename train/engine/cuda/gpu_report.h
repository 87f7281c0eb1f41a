// What `toroid doctor` says of a machine's GPUs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace toroid::train {

struct GpuReport {
  struct One {
    std::string name;  // "NVIDIA H200, compute capability 9.0, 0000:3b:00.0"
    int64_t free = 0, total = 0;
    // Measured; 0 where `why_not` says why.
    double bf16_flops_per_s = 0, fp32_flops_per_s = 0;  // of large square products
    double copy_bytes_per_s = 0;                        // read and written
    std::string why_not;
  };
  std::string versions;  // "driver up to CUDA 13.1, program 13.0"
  std::vector<One> gpus;
  std::string why_none;  // a sentence where there is no GPU that can be used
};

// Measures each GPU for a second or so, by products of `side` x `side` matrices where its memory takes them.
GpuReport look_at_gpus(int64_t side = 8192);

}  // namespace toroid::train
