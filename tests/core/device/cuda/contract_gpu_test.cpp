// The contract of kernels on a real GPU. Without one all of it is skipped: bench/gpu.sh runs it where there
// is one.
#include <tuple>
#include <vector>

#include "core/device/cuda/gpus.h"
#include "core/op/attention.h"
#include "tests/core/device/cuda/gpu_source.h"
#include "tests/core/device/cuda/kernel_hashes.h"

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
INSTANTIATE_TEST_SUITE_P(devices, KernelHashes, ::testing::Values(gpu_source("gpu", kBytes)),
                         [](const auto& source) { return source.param.name; });

// The contract holds whoever computes: that it was cuDNN is seen here. Tokens, query and key/value heads,
// their size, window, soft-cap.
TEST(CudnnOnAGpu, has_kernels_for_what_it_is_given) {
  const cuda::AttentionLibrary library = cuda::attention_library();
  if (!library.fused) GTEST_SKIP() << "attention goes by " << library.text;
  Devices devices(attention_source("cudnn", kBytes).make);
  for (const auto& [T, N, K, H, window, softcap] :
       {std::tuple(2048, 8, 1, 256, 0, 0.0), std::tuple(2048, 4, 2, 256, 1024, 50.0),
        std::tuple(777, 6, 3, 104, 0, 0.0), std::tuple(17, 2, 1, 16, 7, 0.0)}) {
    Workbench bench(devices);
    const op::AttentionSpec spec{1, N, K, H, 0.0625, window, softcap};
    const Tensor q = bench.normal(DType::bf16, {T, N * H}), k = bench.normal(DType::bf16, {T, K * H}),
                 v = bench.normal(DType::bf16, {T, K * H}), o = bench.output(DType::bf16, {T, N * H}),
                 lse = bench.output(DType::f32, {N, T}),
                 starts = bench.integers({T}, std::vector<int64_t>(static_cast<size_t>(T), 0));
    bench.run(op::attention(q, k, v, starts, o, lse, spec));
    bench.run(op::attention_grad(bench.normal(DType::bf16, {T, N * H}), q, k, v, o, lse, starts,
                                 bench.output(DType::bf16, {T, N * H}), bench.output(DType::bf16, {T, K * H}),
                                 bench.output(DType::bf16, {T, K * H}), spec));
  }
  EXPECT_EQ(devices.with(1).remarks(), std::vector<std::string>{});
}

}  // namespace
}  // namespace toroid::testing
