// The contract over the ranks that mpirun started; run by run_ranks.sh.
#include <gtest/gtest.h>

#include <iostream>

#include "contract.h"
#include "core/device/cpu/cpu_device.h"
#include "parallel/comm/world.h"

namespace toroid {
namespace {

World* job = nullptr;  // of the program, for its tests

TEST(MpiRanks, FulfilTheContract) {
  CpuDevice device(std::make_shared<DeviceKernels>(), job->transfers(), job->pages());
  testing::check_all(*job, device);
}

TEST(MpiRanks, KnowEachOther) {
  EXPECT_EQ(job->size(), launched_ranks());
  EXPECT_EQ(job->host_ranks().size(), static_cast<size_t>(job->size())) << "all ranks are on this host";
}

}  // namespace
}  // namespace toroid

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  try {
    const auto world = toroid::make_world(toroid::Seconds(60));
    toroid::job = world.get();
    const int failed = RUN_ALL_TESTS();
    if (failed != 0) world->abort(toroid::ExitCode::internal_error);
    return failed;
  } catch (const toroid::Error& error) {
    std::cerr << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}
