// The cases on a device that runs ahead: what the program computes there is, bit for bit, what it computes on
// one that has finished when a call returns, with the same kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/device/reference_device.h"
#include "tests/core/device/asynchronous_device.h"
#include "tests/golden/golden_case.h"

namespace toroid::golden {
namespace {

struct Trained {
  std::vector<float> logits;
  std::vector<double> losses, norms;
  std::map<std::string, std::vector<float>> tensors;  // gradients of the first step, masters after the last
};

Trained train(Device& device, const Case& golden, const train::StepOptions& options) {
  const auto alone = make_group_of_one();
  const auto program = make_program(device, {*alone, *alone, *alone, *alone}, golden, options);
  Trained out;
  out.logits = to_host(device, program->trace(golden.batch(0), golden.sequences).logits.tensor);
  program->upload(golden.batch(0), 1e-3);
  for (int64_t s = 0; s < golden.steps; ++s) {
    program->step();
    // As the loop does it: the next batch is on its way and the step's result is read late.
    if (s + 1 < golden.steps) program->upload(golden.batch(s + 1), 1e-3);
    if (s == 0) {
      for (const NamedTensor& part : program->zero().gradient_tensors())
        out.tensors["gradient " + part.name] = to_host(device, part.tensor);
    }
    if (s == 0) continue;
    for (const int steps_ago : {1, 0}) {
      if (steps_ago == 0 && s + 1 < golden.steps) continue;
      const train::StepResult result = program->result(steps_ago);
      out.losses.push_back(result.loss);
      out.norms.push_back(result.gradient_norm);
    }
  }
  for (const NamedTensor& part : program->zero().parts())
    out.tensors[part.part + " " + part.name] = to_host(device, part.tensor);
  return out;
}

class GoldenAsynchronous : public ::testing::TestWithParam<Path> {
 protected:
  void expect_same(const train::StepOptions& options) {
    const Case golden(GetParam());
    ReferenceDevice at_once;
    ::toroid::testing::AsynchronousDevice ahead(
        std::shared_ptr<const DeviceKernels>(std::shared_ptr<void>(), &at_once.kernels()));
    const Trained expected = train(at_once, golden, options), got = train(ahead, golden, options);
    EXPECT_EQ(static_cast<int64_t>(got.losses.size()), golden.steps);
    EXPECT_EQ(got.logits, expected.logits);
    EXPECT_EQ(got.losses, expected.losses);
    EXPECT_EQ(got.norms, expected.norms);
    EXPECT_EQ(got.tensors, expected.tensors);
    // The same numbers, and the right ones: golden_test has their bound.
    const auto losses = read_values(golden.expected, "losses").values;
    for (size_t s = 0; s < losses.size(); ++s)
      EXPECT_NEAR(got.losses[s], losses[s], 1e-5 * std::abs(losses[s]));
  }
};

TEST_P(GoldenAsynchronous, TrainingFp32) {
  train::StepOptions options;
  options.compute = DType::f32;
  options.sequences_per_replica = 2;
  expect_same(options);
}

TEST_P(GoldenAsynchronous, TrainingWithAccumulationAndRecomputation) {
  train::StepOptions options;
  options.compute = DType::f32;
  options.remat = train::Remat::full;
  expect_same(options);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenAsynchronous, ::testing::ValuesIn(case_directories()), case_name);

}  // namespace
}  // namespace toroid::golden
