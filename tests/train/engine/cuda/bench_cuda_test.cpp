// `toroid bench` with `device: CUDA`: that it measures GPUs, not how fast a stand-in is.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <string>

#include "bench/step/kernel_bench.h"
#include "bench/step/step_bench.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/parallel/rank_threads.h"
#include "tests/train/certify/local_layout.h"
#include "tests/train/engine/cuda/gpus.h"
#include "train/machine/collective_bench.h"

namespace toroid::train {
namespace {

TEST(CudaBench, times_a_step_with_its_operators_and_traces_it) {
  const StandInGpus machine(1);
  const TemporaryDirectory directory;
  const config::RunConfig run = small_config("heads: 4 kv_heads: 2", {"device=CUDA", "train.trace.after=1"});
  StepBenchOptions options;
  options.steps = 3;
  options.with_floor = false;
  options.with_operators = true;
  options.trace = directory / "trace.json";
  const StepBench bench = bench_step(run, options, cuda_plugins());
  EXPECT_TRUE(std::isfinite(bench.loss));
  EXPECT_GT(bench.min_s, 0);
  EXPECT_GT(bench.forward_s, 0);
  EXPECT_GT(bench.backward_s, 0);
  EXPECT_GT(bench.optimizer_s, 0);
  EXPECT_EQ(bench.exposed_s, 0) << "one GPU waits for nobody";
  EXPECT_EQ(bench.communication_s, 0);
  EXPECT_FALSE(bench.overlap.has_value());
  EXPECT_EQ(bench.used.bytes_peak, bench.predicted.bytes_peak);
  ASSERT_FALSE(bench.operators.empty());
  for (const OperatorTime& row : bench.operators) EXPECT_GT(row.seconds, 0) << row.text;
  EXPECT_TRUE(is_present(options.trace));
}

TEST(CudaBench, times_how_long_the_host_issues) {
  const StandInGpus machine(1);
  StepBenchOptions options;
  options.steps = 2;
  options.with_floor = false;
  const StepBench gpu =
      bench_step(small_config("heads: 4 kv_heads: 2", {"device=CUDA"}), options, cuda_plugins());
  ASSERT_TRUE(gpu.issue_s.has_value());
  EXPECT_GT(*gpu.issue_s, 0);
  EXPECT_LE(*gpu.issue_s, gpu.first_step_s + 2 * gpu.median_s);
  EXPECT_FALSE(gpu.mfu()) << "no data sheet is of a stand-in";
  const StepBench cpu =
      bench_step(small_config("heads: 4 kv_heads: 2", {"train.threads=1"}), options, Plugins());
  EXPECT_FALSE(cpu.issue_s.has_value()) << "a processor computes while it issues";
}

// Each operator of the step once, with as many calls as a step has; products in all ways of the library.
TEST(CudaBench, times_each_operator_of_a_step) {
  const StandInGpus machine(1);
  const config::RunConfig run = small_config(
      "heads: 4 kv_heads: 2", {"device=CUDA", "train.precision=BF16", "train.deterministic=false"});
  KernelBenchOptions options;
  options.rounds = 1;
  options.each = Seconds(0);
  options.beyond_caches = 4000;
  const KernelBench bench = bench_kernels(run, options, cuda_plugins());
  EXPECT_TRUE(bench.finite);
  EXPECT_GT(bench.copy_bytes_per_s, 0);
  std::map<std::string, int64_t> calls, issued;
  int several_ways = 0;
  for (const KernelTime& kernel : bench.kernels) {
    EXPECT_GT(kernel.seconds, 0) << kernel.text;
    if (kernel.kind == KernelClass::product) {
      EXPECT_GT(kernel.flops, 0) << kernel.text;
      EXPECT_LE(kernel.best_s, kernel.seconds) << kernel.text;
      EXPECT_GE(kernel.ways, 1) << kernel.text;
      several_ways += kernel.ways > 1 ? 1 : 0;
    }
    calls[kernel.op] += kernel.calls;
  }
  EXPECT_GT(several_ways, 0);
  EXPECT_GT(bench.attention_s("attention"), 0);
  EXPECT_GT(bench.attention_s("attention_grad"), 0);
  EXPECT_EQ(calls["loss_grad without its products"], calls["loss_grad"]);
  ASSERT_NE(bench.worst(KernelClass::memory), nullptr);
  ASSERT_NE(bench.worst(KernelClass::product), nullptr);
  for (const KernelTime& kernel : bench.kernels) {
    if (kernel.kind == KernelClass::memory && bench.judged(kernel)) {
      EXPECT_GE(kernel.bytes, options.beyond_caches);
      EXPECT_GE(bench.share(kernel), bench.share(*bench.worst(KernelClass::memory)));
    }
  }
  StepBenchOptions step;
  step.steps = 1;
  step.with_floor = false;
  step.with_operators = true;
  for (const OperatorTime& row : bench_step(run, step, cuda_plugins()).operators)
    issued[row.text.substr(0, row.text.find('('))] += row.count;
  for (const auto& [op, count] : issued) {
    // The products of the loss are timed alone beside the step's.
    if (op.rfind("matmul", 0) == 0) {
      EXPECT_GT(calls[op], count) << op;
    } else {
      EXPECT_EQ(calls[op], count) << op;
    }
  }
}

TEST(CudaBench, times_operators_on_a_processor_too) {
  KernelBenchOptions options;
  options.rounds = 1;
  options.each = Seconds(0);
  const KernelBench bench =
      bench_kernels(small_config("heads: 4 kv_heads: 2", {"train.threads=1"}), options, Plugins());
  EXPECT_TRUE(bench.finite);
  EXPECT_GT(bench.copy_bytes_per_s, 0);
  EXPECT_EQ(bench.worst(KernelClass::product), nullptr) << "there is one way of each";
}

TEST(CudaBench, times_the_collectives_of_the_library) {
  const StandInGpus machine(2);
  LocalJob job(2, {});
  CollectiveBenchOptions options;
  options.shape = {1, 2};
  options.sizes = {4096, 1 << 20};
  options.rounds = 2;
  std::vector<CollectiveBench> found(2);
  const std::string failures = testing::run_rank_threads(2, [&](int rank) {
    found[static_cast<size_t>(rank)] = bench_collectives(options, cuda_maker(kGpuBytes), job.world(rank));
  });
  ASSERT_EQ(failures, "");
  for (const CollectiveBench& bench : found) {
    EXPECT_TRUE(bench.on_gpus);
    ASSERT_EQ(bench.rows.size(), 4 * options.sizes.size());
    for (const CollectiveRow& row : bench.rows) {
      EXPECT_GT(row.library_s, 0);
      EXPECT_TRUE(row.times.empty());
      EXPECT_EQ(row.copy_rate, 0);
    }
    EXPECT_TRUE(bench.winners().empty());
    EXPECT_TRUE(bench.times().empty());
  }
  EXPECT_EQ(found[0].rows[0].library_s, found[1].rows[0].library_s) << "the slowest rank's";
}

}  // namespace
}  // namespace toroid::train
