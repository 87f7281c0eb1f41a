// What `toroid doctor` says of a machine's GPUs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/clock.h"

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
  std::string attention;  // "cuDNN 9.19.0", or why it goes by Toroid's own kernels
  std::string peers;      // whose memory they reach; empty where there is one GPU
  std::string nccl;       // its version; empty where `why_not_nccl` says why
  double gather_bytes_per_s = 0, reduce_bytes_per_s = 0;  // of each GPU's links, by NCCL's all_gather and
                                                          // reduce_scatter; 0 where `why_not_nccl` says why
  std::string why_not_nccl;
  std::string why_none;  // a sentence where there is no GPU that can be used
};

// What is measured, and how long at most.
struct GpuReportOptions {
  int64_t side = 8192;                            // products of square matrices, where memory takes them
  int64_t collective_bytes = int64_t{256} << 20;  // that all GPUs together gather and reduce
  Seconds deadline{30};                           // for a collective that does not come back
};
// Measures each GPU for a second or so, and what NCCL moves between them where there are several.
GpuReport look_at_gpus(const GpuReportOptions& options = {});

}  // namespace toroid::train
