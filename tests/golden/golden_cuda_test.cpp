// The cases on the CUDA device and over NCCL, on their stand-ins: the bounds of every other device.
#include <gtest/gtest.h>

#include "core/model/split.h"
#include "tests/golden/golden_fixture.h"
#include "tests/golden/golden_ranks.h"
#include "tests/train/engine/cuda/gpus.h"

namespace toroid::golden {
namespace {

using ::toroid::testing::LocalLayout;
using train::gpu_alone;
using train::gpu_of;
using train::StandInGpus;

// The machine is there before the device and after it.
class GoldenCuda : private StandInGpus, public GoldenFixture {
 protected:
  GoldenCuda() : StandInGpus(1), GoldenFixture(gpu_alone()) {}
};

TEST_P(GoldenCuda, ForwardPassFp32) {
  forward_pass(*program(fp32(golden_.sequences)));
}

TEST_P(GoldenCuda, TrainingFp32) {
  training(fp32(golden_.sequences));
}

TEST_P(GoldenCuda, TrainingDeterministicWithAccumulationAndRecomputation) {
  train::StepOptions options = fp32(1);
  options.deterministic = true;
  options.remat = train::Remat::full;
  training(options);
}

TEST_P(GoldenCuda, Bf16WithinTwiceTheReferencesDistance) {
  bf16_training();
}

class GoldenCudaRanks : private StandInGpus, public GoldenRanksFixture {
 protected:
  GoldenCudaRanks() : StandInGpus(4) {}
  // Data 4; data 2 x model 2.
  std::vector<LocalLayout> layouts() const {
    std::vector<LocalLayout> out{{4, 1}};
    if (why_not_split(golden_.config.heads, golden_.config.ffn, 2, false).empty()) out.push_back({2, 2});
    return out;
  }
};

TEST_P(GoldenCudaRanks, TrainingFp32) {
  train::StepOptions options;
  options.compute = DType::f32;
  for (const LocalLayout& layout : layouts()) {
    SCOPED_TRACE(layout.text());
    expect_golden(train(golden_, layout, options, Cut::never, gpu_of));
  }
}

// Products beside the rounds of their collectives.
TEST_P(GoldenCudaRanks, Bf16SumsWithinTwiceTheReferencesDistance) {
  train::StepOptions options;
  options.compute = DType::bf16;
  options.model_wire = Wire::bf16;
  for (const LocalLayout& layout : layouts()) {
    SCOPED_TRACE(layout.text());
    expect_golden_in_bf16(train(golden_, layout, options, Cut::always, gpu_of));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenCuda, ::testing::ValuesIn(case_directories()), case_name);
INSTANTIATE_TEST_SUITE_P(Cases, GoldenCudaRanks, ::testing::ValuesIn(case_directories()), case_name);

}  // namespace
}  // namespace toroid::golden
