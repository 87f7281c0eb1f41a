// The cases on a real GPU. Without one all of it is skipped: bench/gpu.sh runs it where there is one.
#include <gtest/gtest.h>

#include "core/device/cuda/gpus.h"
#include "tests/golden/golden_fixture.h"
#include "train/engine/cuda/cuda_maker.h"

namespace toroid::golden {
namespace {

class OnAGpu final : public ::testing::Environment {
 public:
  void SetUp() override {
    if (cuda::gpu_count() == 0) GTEST_SKIP() << "no GPU is here";
  }
};

[[maybe_unused]] ::testing::Environment* const kOnAGpu =
    ::testing::AddGlobalTestEnvironment(new OnAGpu);  // NOLINT: gtest owns it

class GoldenGpu : public GoldenFixture {
 protected:
  GoldenGpu() : GoldenFixture(train::alone(train::cuda_maker(int64_t{1} << 30), 1, Bf16Products::widened)) {}
};

TEST_P(GoldenGpu, ForwardPassFp32) {
  forward_pass(*program(fp32(golden_.sequences)));
}

TEST_P(GoldenGpu, TrainingFp32) {
  training(fp32(golden_.sequences));
}

TEST_P(GoldenGpu, TrainingDeterministicWithAccumulationAndRecomputation) {
  train::StepOptions options = fp32(1);
  options.deterministic = true;
  options.remat = train::Remat::full;
  training(options);
}

TEST_P(GoldenGpu, Bf16WithinTwiceTheReferencesDistance) {
  bf16_training();
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenGpu, ::testing::ValuesIn(case_directories()), case_name);

}  // namespace
}  // namespace toroid::golden
