// Ranks as threads, each with a GPU of the stand-ins and groups over NCCL.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/device/cuda/cuda_device.h"
#include "parallel/comm/nccl/nccl_groups.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"
#include "tests/parallel/comm/nccl/stand_in/nccl_stand_in.h"
#include "tests/parallel/local_world.h"

namespace toroid::testing {

inline constexpr int64_t kGpuBytes = int64_t{64} << 20;

struct NcclJob {
  int ranks = 1;
  LocalJob::Options options = {};
  // Of a rank; the default gives each its own.
  std::function<int(int rank)> gpu = [](int rank) { return rank; };
  Seconds nccl_deadline{30};
};

// What went wrong on a rank.
struct RankFailure {
  std::string text;
  ExitCode code = ExitCode::done;
};

stand_in::Machine machine_of(int gpus);

// Calls `work` on every rank, and waits for all.
std::vector<RankFailure> run_on_gpus(const NcclJob& job,
                                     const std::function<void(World&, CudaDevice&)>& work);
// The same, where nothing is to go wrong.
void run_well_on_gpus(const NcclJob& job, const std::function<void(World&, CudaDevice&)>& work);

}  // namespace toroid::testing
