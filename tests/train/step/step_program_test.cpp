// The step program: deterministic mode's bits, the dry run against a recorded real step, memory predictions.
#include "train/step/step_program.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <sstream>

#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "train/config/load.h"
#include "train/engine/engine.h"
#include "train/loop/dry_run.h"

namespace toroid::train {
namespace {

config::RunConfig recipe(const std::string& name, const std::vector<std::string>& overrides = {}) {
  return config::load("configs/" + name + ".textproto", overrides).run;
}

struct Trained {
  std::vector<float> losses, norms;
  std::vector<std::vector<float>> weights;
  bool operator==(const Trained&) const = default;
};

// `steps` steps on synthetic tokens; every fourth target is masked, unevenly.
Trained train(const config::RunConfig& run, int threads, int64_t steps = 3) {
  const Plugins plugins;
  const Engine engine = make_engine(
      run, make_single_world(),
      std::make_unique<CpuDevice>(plugins.cpu_kernels(threads, cpu::fastest_products())), plugins);
  StepProgram& program = *engine.program;
  program.initialise(run.train().seed());
  SyntheticTokens tokens;
  tokens.tokens_per_sequence = run.batch().tokens_per_sequence();
  tokens.vocab = static_cast<int32_t>(run.model().vocab());
  const auto batches = synthetic_batches(tokens);
  const int64_t sequences = run.batch().global_sequences();
  Trained out;
  for (int64_t s = 0; s < steps; ++s) {
    Batch batch = batches->batch(s * sequences, sequences);
    batch.target_count = 0;
    for (size_t i = 0; i < batch.targets.size(); ++i) {
      if (i % 4 == 1 && i < batch.targets.size() / 2) batch.targets[i] = -1;
      batch.target_count += batch.targets[i] >= 0 ? 1 : 0;
    }
    program.upload(host_batch(batch), 1e-2);
    program.step();
    const StepResult result = program.result(0);
    out.losses.push_back(static_cast<float>(result.loss));
    out.norms.push_back(static_cast<float>(result.gradient_norm));
  }
  for (const NamedTensor& part : program.zero().parts()) {
    std::vector<float> values(static_cast<size_t>(part.tensor.elements()));
    engine.device->read(part.tensor, std::as_writable_bytes(std::span(values)));
    out.weights.push_back(std::move(values));
  }
  return out;
}

void expect_same_bits(const Trained& a, const Trained& b, const std::string& what) {
  EXPECT_EQ(a.losses, b.losses) << what;
  EXPECT_EQ(a.norms, b.norms) << what;
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (size_t t = 0; t < a.weights.size(); ++t) {
    EXPECT_EQ(0, std::memcmp(a.weights[t].data(), b.weights[t].data(), a.weights[t].size() * sizeof(float)))
        << what << ", tensor " << t;
  }
}

class StepProgramTest : public testing::TestWithParam<const char*> {};

TEST_P(StepProgramTest, DeterministicModeDoesNotDependOnMicrobatchThreadsOrRemat) {
  for (const char* precision : {"FP32", "BF16"}) {
    const auto run = [&](const std::string& sequences, const std::string& remat) {
      return recipe(GetParam(), {"train.deterministic=true", std::string("train.precision=") + precision,
                                 "batch.sequences_per_replica=" + sequences, "train.remat=" + remat});
    };
    const Trained first = train(run("1", "NONE"), 1);
    EXPECT_TRUE(std::isfinite(first.losses.back()));
    EXPECT_NE(first.losses.front(), first.losses.back());
    expect_same_bits(first, train(run("2", "NONE"), 1), "two sequences");
    expect_same_bits(first, train(run("4", "CHEAP"), 2), "four sequences, cheap, two threads");
    expect_same_bits(first, train(run("1", "FULL"), 3), "full recomputation, three threads");
  }
}

TEST_P(StepProgramTest, EveryModeRepeatsItsBits) {
  for (const char* precision : {"FP32", "BF16"}) {
    const auto run = recipe(GetParam(), {std::string("train.precision=") + precision});
    expect_same_bits(train(run, 2), train(run, 2), precision);
  }
}

TEST_P(StepProgramTest, RecomputationChangesNothing) {
  const Trained kept = train(recipe(GetParam(), {"train.remat=NONE"}), 2);
  expect_same_bits(kept, train(recipe(GetParam(), {"train.remat=CHEAP"}), 2), "cheap");
  expect_same_bits(kept, train(recipe(GetParam(), {"train.remat=FULL"}), 2), "full");
}

void expect_same_record(const config::RunConfig& run) {
  const Plugins plugins;
  const StepRecord dry = record_dry(run, plugins), real = record_real(run, plugins);
  ASSERT_EQ(dry.operators.size(), real.operators.size());
  EXPECT_GT(dry.operators.size(), 50u);
  for (size_t i = 0; i < dry.operators.size(); ++i) {
    ASSERT_EQ(dry.operators[i].text, real.operators[i].text) << "operator " << i;
    ASSERT_EQ(dry.operators[i].phase, real.operators[i].phase) << "operator " << i;
  }
  EXPECT_EQ(dry.memory.bytes_peak, real.memory.bytes_peak);
}

TEST_P(StepProgramTest, DryRunIssuesWhatARealStepIssues) {
  expect_same_record(recipe(GetParam()));
  expect_same_record(
      recipe(GetParam(), {"train.remat=FULL", "batch.sequences_per_replica=1", "train.precision=BF16"}));
}

TEST_P(StepProgramTest, PredictedMemoryIsWithinATenthOfTheAllocators) {
  const auto run = recipe(GetParam());
  const Plugins plugins;
  const int64_t predicted = record_dry(run, plugins).memory.bytes_peak;
  const Engine engine = make_engine(
      run, make_single_world(),
      std::make_unique<CpuDevice>(plugins.cpu_kernels(compute_threads(run.train()), cpu::fastest_products())),
      plugins);
  engine.program->initialise(1);
  engine.program->upload(host_batch(synthetic_batch(run, 0)), 0);
  engine.program->step();
  const int64_t measured = engine.device->statistics().bytes_peak;
  EXPECT_NEAR(static_cast<double>(predicted), static_cast<double>(measured),
              0.1 * static_cast<double>(measured));
}

INSTANTIATE_TEST_SUITE_P(Recipes, StepProgramTest,
                         testing::Values("tiny_gemma", "tiny_gemma2", "tiny_gemma3", "tiny_plain"));

// Slow: runs apart from the others (CMakeLists.txt here).
TEST(DryRunOfB1, IssuesWhatARealStepIssues) {
  expect_same_record(recipe("bench_b1"));
}

TEST(DryRun, PrintsUnitsOperatorsAndMemory) {
  const auto run = recipe("gemma_2b", {"batch.tokens_per_sequence=512", "batch.global_sequences=1",
                                       "batch.sequences_per_replica=1"});
  std::ostringstream text;
  print_record(text, run, record_dry(run, Plugins()));
  for (const char* expected :
       {"layer.17", "loss_grad", "1,981,884,416 others", "524,550,144 embedding", "in all"}) {
    EXPECT_NE(text.str().find(expected), std::string::npos) << expected;
  }
}

TEST(Parameters, OfTheReportComeOutExactly) {
  const auto two = count_parameters(decoder_config(recipe("gemma_2b").model()));
  EXPECT_EQ(two.other, 1'981'884'416);
  EXPECT_EQ(two.embedding, 524'550'144);
  const auto seven = count_parameters(decoder_config(recipe("gemma_7b").model()));
  EXPECT_EQ(seven.other, 7'751'248'896);
  EXPECT_EQ(seven.embedding, 786'825'216);
  EXPECT_EQ(count_parameters(decoder_config(recipe("gemma2_2b").model())).other, 2'024'517'888);
  EXPECT_EQ(count_parameters(decoder_config(recipe("gemma3_1b").model())).other, 697'896'064);
}

}  // namespace
}  // namespace toroid::train
