#include "tests/parallel/comm/nccl/ranks.h"

#include <gtest/gtest.h>

#include <thread>

#include "core/device/cuda/cuda_kernels.h"

namespace toroid::testing {

stand_in::Machine machine_of(int gpus) {
  stand_in::Machine machine;
  machine.gpus = gpus;
  machine.bytes = int64_t{4} << 30;
  return machine;
}

std::vector<RankFailure> run_on_gpus(const NcclJob& of,
                                     const std::function<void(World&, CudaDevice&)>& work) {
  LocalJob job(of.ranks, of.options);
  std::vector<RankFailure> failures(static_cast<size_t>(of.ranks));
  const auto run = [&](int rank) {
    const auto world = job.world(rank);
    try {
      CudaDevice::Options options;
      options.gpu = of.gpu(rank);
      options.bytes = kGpuBytes;
      options.staging_bytes = int64_t{1} << 20;
      CudaDevice device(make_cuda_kernels(), options);
      NcclGroups::Options groups;
      groups.gpu = device.gpu();
      groups.memory = device.memory();
      groups.deadline = of.nccl_deadline;
      world->describe("data " + std::to_string(rank));
      world->carry_out_by(std::make_shared<NcclGroups>(*world, groups));
      work(*world, device);
    } catch (const Error& error) {
      failures[static_cast<size_t>(rank)] = {error.what(), error.code()};
    }
  };
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < of.ranks; ++rank) ranks.emplace_back(run, rank);
  for (std::thread& rank : ranks) rank.join();
  return failures;
}

void run_well_on_gpus(const NcclJob& job, const std::function<void(World&, CudaDevice&)>& work) {
  for (const RankFailure& failure : run_on_gpus(job, work)) EXPECT_EQ(failure.text, "");
}

}  // namespace toroid::testing
