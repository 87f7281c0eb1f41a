// A config with `device: CUDA` on one GPU and on several: the same bits under every layout in deterministic
// mode, and work that was shared.
#include <gtest/gtest.h>

#include "tests/train/certify/local_layout.h"
#include "tests/train/engine/cuda/gpus.h"
#include "train/certify/work.h"

namespace toroid::train {
namespace {

config::RunConfig gpu_config(const std::string& heads, std::vector<std::string> sets = {}) {
  sets.insert(sets.begin(), "device=CUDA");
  return small_config(heads, sets);
}

LayoutRun run_on_gpus(const config::RunConfig& run, const Layout& layout) {
  const StandInGpus machine(layout.ranks());
  return run_locally(run, layout, {}, gpu_of, cuda_plugins());
}

void expect_same_bits(const config::RunConfig& run, const std::string& layouts) {
  const LayoutRun one = run_on_gpus(run, parse_layouts("1x1")[0]);
  ASSERT_EQ(one.steps.size(), static_cast<size_t>(run.train().steps()));
  EXPECT_NE(one.steps.front().loss, one.steps.back().loss);
  for (const Layout& layout : parse_layouts(layouts)) {
    const LayoutRun other = run_on_gpus(run, layout);
    const Verdict verdict = compare_bits(one, other);
    EXPECT_TRUE(verdict.passed) << layout.text() << ::testing::PrintToString(verdict.findings);
    config::RunConfig laid_out = run;
    layout.apply(laid_out);
    EXPECT_EQ(compare_work(planned_work(laid_out), other.work), std::vector<std::string>()) << layout.text();
  }
}

TEST(CudaLayouts, give_the_bits_of_one_gpu) {
  expect_same_bits(gpu_config("heads: 4 kv_heads: 2"),
                   "2x1 zero 3; 2x1 zero 0; model 2 of 2x2 zero 3; pods 2 of 1x2 zero 1");
}

TEST(CudaLayouts, give_the_bits_of_one_gpu_WholeCertificate) {
  for (const std::string precision : {"BF16", "FP32"})
    expect_same_bits(gpu_config("heads: 4 kv_heads: 2", {"train.precision=" + precision}),
                     "2x2; 4x1; 1x4; 4x4; pods 2 of 2x2; model 2 of 4x2; model 4 of 4x4; zero 0,1,2,3");
}

// Of one kind of device each run has the same bits in fast mode too.
TEST(CudaLayouts, fast_mode_repeats_its_bits) {
  const config::RunConfig run = gpu_config(
      "heads: 4 kv_heads: 1", {"train.deterministic=false", "mesh.overlap=ALWAYS", "mesh.model_wire=BF16"});
  const Layout layout = parse_layouts("model 2 of 2x2 zero 3")[0];
  const Verdict verdict = compare_bits(run_on_gpus(run, layout), run_on_gpus(run, layout));
  EXPECT_TRUE(verdict.passed) << ::testing::PrintToString(verdict.findings);
}

}  // namespace
}  // namespace toroid::train
