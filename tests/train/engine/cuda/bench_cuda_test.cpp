// `toroid bench` with `device: CUDA`: that it measures GPUs, not how fast a stand-in is.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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
