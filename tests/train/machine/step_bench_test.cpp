// `toroid bench step` on a processor: that it measures, not how fast this one is.
#include "bench/step/step_bench.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/train/certify/local_layout.h"

namespace toroid::train {
namespace {

TEST(StepBench, TimesAStepItsOperatorsAndItsFloor) {
  const config::RunConfig run = small_config("heads: 4 kv_heads: 2");
  StepBenchOptions options;
  options.steps = 2;
  options.with_operators = true;
  const StepBench bench = bench_step(run, options, Plugins());
  EXPECT_TRUE(std::isfinite(bench.loss));
  EXPECT_GT(bench.median_s, 0);
  EXPECT_EQ(bench.used.bytes_peak, bench.predicted.bytes_peak);
  ASSERT_FALSE(bench.operators.empty());
  ASSERT_FALSE(bench.floor.terms.empty());
  for (const FloorTerm& term : bench.floor.terms) EXPECT_GT(term.seconds(), 0) << term.name;
  EXPECT_GT(bench.floor.best_flops, 0);
}

}  // namespace
}  // namespace toroid::train
