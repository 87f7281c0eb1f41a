// The contract of kernels on a real GPU. Without one all of it is skipped: bench/gpu.sh runs it where there
// is one.
#include "core/device/cuda/gpus.h"
#include "tests/core/device/cuda/gpu_source.h"

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

constexpr int64_t kBytes = int64_t{256} << 20;

INSTANTIATE_TEST_SUITE_P(devices, KernelContract,
                         ::testing::Values(gpu_source("gpu", kBytes), attention_source("cudnn", kBytes)),
                         [](const auto& source) { return source.param.name; });
INSTANTIATE_TEST_SUITE_P(devices, DeterministicContract, ::testing::Values(gpu_source("gpu", kBytes)),
                         [](const auto& source) { return source.param.name; });

}  // namespace
}  // namespace toroid::testing
