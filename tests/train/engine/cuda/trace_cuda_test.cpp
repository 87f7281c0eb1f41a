// What `--trace` records of GPUs: as of processors, with each queue's operators in its row.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/train/engine/cuda/gpus.h"
#include "tests/train/report/traced.h"

namespace toroid::train {
namespace {

Traced trace_gpus(int gpus, const std::string& layout) {
  const StandInGpus machine(gpus);
  return trace(layout, {}, {gpu_of, cuda_plugins()}, {"device=CUDA"});
}

TEST(CudaTrace, HasARowForEachRankAndStream) {
  const Traced one = trace_gpus(1, "1x1");
  expect_whole(one);
  expect_used(one, {"compute"});
  const Traced traced = trace_gpus(2, "1x2");
  expect_whole(traced);
  expect_used(traced, {"compute", "gather", "reduce"});
}

TEST(CudaTrace, HasTheModelAxisAndThePods) {
  const Traced model = trace_gpus(4, "model 2 of 2x2");
  expect_whole(model);
  expect_used(model, {"compute", "gather", "reduce", "model"});
  const Traced pods = trace_gpus(4, "pods 2 of 1x2");
  expect_whole(pods);
  expect_used(pods, {"compute", "gather", "reduce", "pod"});
}

TEST(CudaTrace, NamesUnitsAndPhasesOfWhatHasRunLater) {
  const Traced traced = trace_gpus(1, "1x1");
  std::set<std::string> units, phases;
  for (const Slice& slice : traced.rows.at({0, "compute"})) {
    if (slice.category != "operator") continue;
    phases.insert(slice.arguments.at("phase").get<std::string>());
    units.insert(slice.arguments.value("unit", ""));
  }
  EXPECT_EQ(phases, (std::set<std::string>{"forward", "backward", "optimizer"}));
  for (const char* unit : {"", "embedding", "layer.0", "layer.1"}) EXPECT_TRUE(units.contains(unit)) << unit;
}

}  // namespace
}  // namespace toroid::train
