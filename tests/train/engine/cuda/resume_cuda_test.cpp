// A run that goes from the CPU to a GPU and back, through checkpoints: within the golden bounds of what the
// CPU alone does (tests/golden/README.md).
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/train/engine/cuda/gpus.h"
#include "tests/train/loop/runs.h"

namespace toroid::train {
namespace {

class CudaRun : public RunsTest {
 protected:
  TrainOptions on(const std::string& device, const std::string& out, int64_t steps,
                  const std::string& from = "") const {
    TrainOptions out_options =
        options(out, {"device=" + device, "train.precision=FP32", "train.threads=1",
                      "train.steps=" + std::to_string(steps), "optim.schedule.cosine.steps=8"});
    if (!from.empty()) out_options.resume = root_ / from;
    return out_options;
  }
  ExitCode train_on(const TrainOptions& options) const {
    const StandInGpus machine(1);
    return run(options, cuda_plugins());
  }
  // By step.
  static std::map<int64_t, double> losses(const std::string& out) {
    std::map<int64_t, double> found;
    std::ifstream in(root_ / out / "metrics.jsonl");
    for (std::string line; std::getline(in, line);) {
      const auto row = nlohmann::json::parse(line);
      if (row.contains("loss") && row.contains("step")) found[row["step"]] = row["loss"];
    }
    return found;
  }
  static std::vector<float> master(const std::string& step, const std::string& name) {
    CheckpointReader reader(root_ / step, Verify::headers);
    for (const CheckpointTensor& tensor : reader.tensors()) {
      if (tensor.part != "master" || tensor.name != name) continue;
      int64_t elements = 1;
      for (const int64_t extent : tensor.shape) elements *= extent;
      std::vector<float> out(static_cast<size_t>(elements));
      reader.read(name, "master", 0, std::as_writable_bytes(std::span(out)));
      return out;
    }
    return {};
  }
};

TEST_F(CudaRun, goes_from_the_cpu_to_a_gpu_and_back) {
  ASSERT_EQ(train_on(on("CPU", "cpu", 8)), ExitCode::done);
  ASSERT_EQ(train_on(on("CPU", "first", 2)), ExitCode::done);
  ASSERT_EQ(train_on(on("CUDA", "second", 6, "first")), ExitCode::done);
  ASSERT_EQ(train_on(on("CPU", "third", 8, "second")), ExitCode::done);
  const auto expected = losses("cpu");
  auto got = losses("first");
  for (const char* const part : {"second", "third"}) {
    const auto more = losses(part);
    EXPECT_FALSE(more.empty()) << part;
    got.insert(more.begin(), more.end());
  }
  ASSERT_EQ(got.size(), 8u);
  for (const auto& [step, loss] : expected) EXPECT_NEAR(got.at(step), loss, 1e-5 * std::abs(loss)) << step;
  // The weights, beside what eight steps made of them.
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  const auto before = master("cpu/checkpoints/step-2", name), alone = master("cpu/checkpoints/step-8", name),
             after = master("third/checkpoints/step-8", name);
  ASSERT_FALSE(alone.empty());
  ASSERT_EQ(after.size(), alone.size());
  double error = 0, update = 0;
  for (size_t i = 0; i < after.size(); ++i) {
    error += std::pow(static_cast<double>(after[i]) - alone[i], 2);
    update += std::pow(static_cast<double>(alone[i]) - before[i], 2);
  }
  EXPECT_GT(update, 0);
  EXPECT_LE(std::sqrt(error), 5e-4 * std::sqrt(update));
}

TEST_F(CudaRun, has_the_bits_of_a_run_that_was_not_interrupted) {
  ASSERT_EQ(train_on(on("CUDA", "whole", 8)), ExitCode::done);
  TrainOptions rest = on("CUDA", "rest", 8);
  rest.resume = root_ / "whole" / "checkpoints" / "step-4";
  ASSERT_EQ(train_on(rest), ExitCode::done);
  EXPECT_EQ(hashes("rest"), hashes("whole"));
}

}  // namespace
}  // namespace toroid::train
