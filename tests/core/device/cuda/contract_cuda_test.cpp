// The CUDA device joins the contract of kernels, on the stand-in. TOROID_STAND_IN=closed: with device memory
// that the host cannot touch and entries that run at once; else streams are late at random.
#include <cstdlib>
#include <optional>

#include "core/op/kinds.h"
#include "tests/core/device/cuda/gpu_source.h"
#include "tests/core/device/cuda/kernel_hashes.h"
#include "tests/core/device/cuda/stand_in/stand_in.h"

namespace toroid::testing {
namespace {

class StandIn final : public ::testing::Environment {
 public:
  void SetUp() override {
    scope_.emplace();
    const char* const how = std::getenv("TOROID_STAND_IN");
    if (how != nullptr && std::string_view(how) == "closed") {
      scope_->close_memory();
    } else {
      scope_->delay(5, 1);
    }
  }
  void TearDown() override { scope_.reset(); }

 private:
  std::optional<stand_in::Scope> scope_;
};

[[maybe_unused]] ::testing::Environment* const kStandIn =
    ::testing::AddGlobalTestEnvironment(new StandIn);  // NOLINT: gtest owns it

constexpr int64_t kBytes = int64_t{64} << 20;

INSTANTIATE_TEST_SUITE_P(devices, KernelContract,
                         ::testing::Values(gpu_source("cuda", kBytes), attention_source("cudnn", kBytes)),
                         [](const auto& source) { return source.param.name; });

INSTANTIATE_TEST_SUITE_P(devices, DeterministicContract, ::testing::Values(gpu_source("cuda", kBytes)),
                         [](const auto& source) { return source.param.name; });
INSTANTIATE_TEST_SUITE_P(devices, KernelHashes, ::testing::Values(gpu_source("cuda", kBytes)),
                         [](const auto& source) { return source.param.name; });

// Fused kinds too: none is left to its expansion, which would compute the logits of a loss twice.
TEST(CudaKernels, are_there_for_every_kind) {
  const auto kernels = make_cuda_kernels();
  for (const OpKind* kind : op::all_kinds()) {
    EXPECT_NE(kernels->find(*kind), nullptr) << kind->name << " has no kernel";
  }
}

}  // namespace
}  // namespace toroid::testing
