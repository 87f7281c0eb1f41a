// The contract of kernels on a real GPU. Without one all of it is skipped: bench/gpu.sh runs it where there
// is one.
#include "core/device/cuda/cuda_device.h"
#include "core/device/cuda/cuda_kernels.h"
#include "core/device/cuda/gpus.h"
#include "tests/core/device/kernel_contract.h"

namespace toroid::testing {
namespace {

class OnAGpu final : public ::testing::Environment {
 public:
  void SetUp() override {
    if (cuda::gpu_count() == 0) GTEST_SKIP() << "no GPU is here";
  }
};

[[maybe_unused]] ::testing::Environment* const kOnAGpu =
    ::testing::AddGlobalTestEnvironment(new OnAGpu);  // NOLINT: gtest owns it

DeviceSource gpu() {
  return {.name = "gpu", .make = [](int) {
            CudaDevice::Options options;
            options.bytes = int64_t{256} << 20;
            options.staging_bytes = int64_t{4} << 20;
            return std::make_unique<CudaDevice>(make_cuda_kernels(), options);
          }};
}

INSTANTIATE_TEST_SUITE_P(devices, KernelContract, ::testing::Values(gpu()),
                         [](const auto& source) { return source.param.name; });
INSTANTIATE_TEST_SUITE_P(devices, DeterministicContract, ::testing::Values(gpu()),
                         [](const auto& source) { return source.param.name; });

}  // namespace
}  // namespace toroid::testing
