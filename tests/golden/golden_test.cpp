// Compares the engine with transformers on every case folder: hidden states, logits, loss, gradients, eight
// training steps. Bounds are golden/README.md's.
#include <gtest/gtest.h>

#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "core/device/reference_device.h"
#include "tests/golden/golden_fixture.h"

namespace toroid::golden {
namespace {

class Golden : public GoldenFixture {
 protected:
  explicit Golden(std::unique_ptr<Device> device = std::make_unique<CpuDevice>(make_cpu_kernels(2)))
      : GoldenFixture(std::move(device)) {}
};

TEST_P(Golden, ForwardPassFp32) {
  forward_pass(*program(fp32(golden_.sequences)));
}

TEST_P(Golden, TrainingFp32) {
  training(fp32(golden_.sequences));
}

TEST_P(Golden, TrainingWithAccumulation) {
  training(fp32(1));
}

TEST_P(Golden, TrainingWithRecomputation) {
  for (const train::Remat remat : {train::Remat::cheap, train::Remat::full}) {
    train::StepOptions options = fp32(golden_.sequences);
    options.remat = remat;
    training(options);
  }
}

TEST_P(Golden, TrainingDeterministic) {
  train::StepOptions options = fp32(1);
  options.deterministic = true;
  training(options);
}

// The same program on the plain device: layers and step, whatever the fast kernels do.
class GoldenReference : public Golden {
 protected:
  GoldenReference() : Golden(std::make_unique<ReferenceDevice>()) {}
};

TEST_P(GoldenReference, ForwardPassFp32) {
  forward_pass(*program(fp32(golden_.sequences)));
}

TEST_P(GoldenReference, TrainingFp32) {
  training(fp32(golden_.sequences));
}

TEST_P(Golden, Bf16WithinTwiceTheReferencesDistance) {
  bf16_training();
}

// Whatever this machine does fast.
class GoldenWidened : public Golden {
 protected:
  GoldenWidened() : Golden(std::make_unique<CpuDevice>(make_cpu_kernels(2, Bf16Products::widened))) {}
};

TEST_P(GoldenWidened, Bf16WithinTwiceTheReferencesDistance) {
  bf16_training();
}

TEST(GoldenCases, AreThere) {
  EXPECT_FALSE(case_directories().empty());
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenReference, testing::ValuesIn(case_directories()), case_name);
INSTANTIATE_TEST_SUITE_P(Cases, Golden, testing::ValuesIn(case_directories()), case_name);
INSTANTIATE_TEST_SUITE_P(Cases, GoldenWidened, testing::ValuesIn(case_directories()), case_name);

}  // namespace
}  // namespace toroid::golden
