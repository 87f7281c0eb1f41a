#include "train/generate/generator.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/device/cpu/cpu_device.h"
#include "core/device/cpu/cpu_kernels.h"
#include "train/config/load.h"
#include "train/generate/sampler.h"

namespace toroid::train {
namespace {

struct Recipe {
  const char* name;
  std::vector<std::string> overrides;
};

class GeneratorTest : public testing::TestWithParam<Recipe> {};

// Prompt in one piece, then token by token, against one pass without the cache.
TEST_P(GeneratorTest, CacheGivesTheLogitsOfAFullPass) {
  CpuDevice device(make_cpu_kernels(2));
  const auto run =
      config::load(std::string("configs/") + GetParam().name + ".textproto", GetParam().overrides).run;
  Generator generator(device, run);
  generator.zero().initialise(7);
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 23; ++i)
    ids.push_back((i * 37 + 5) % static_cast<int32_t>(generator.config().vocab));
  const std::vector<float> whole = generator.logits(ids);
  const auto vocab = static_cast<size_t>(generator.config().vocab);
  generator.start(static_cast<int64_t>(ids.size()));
  for (size_t at = 9; at <= ids.size(); ++at) {
    const std::vector<float> last = at == 9 ? generator.extend(std::span(ids).first(9))
                                            : generator.extend(std::span(ids).subspan(at - 1, 1));
    double worst = 0, scale = 0;
    for (size_t v = 0; v < vocab; ++v) {
      const double expected = whole[(at - 1) * vocab + v];
      worst = std::max(worst, std::abs(static_cast<double>(last[v]) - expected));
      scale = std::max(scale, std::abs(expected));
    }
    EXPECT_LE(worst, 1e-5 * std::max(scale, 1.0)) << "after " << at << " tokens";
  }
}

INSTANTIATE_TEST_SUITE_P(Recipes, GeneratorTest,
                         testing::Values(Recipe{"tiny_gemma", {}}, Recipe{"tiny_gemma2", {}},
                                         Recipe{"tiny_gemma3", {}}, Recipe{"tiny_plain", {}},
                                         Recipe{"tiny_gemma", {"model.parallel_layers=true"}}));

TEST(Generator, RefusesIdsBeyondTheVocabulary) {
  CpuDevice device(make_cpu_kernels(1));
  Generator generator(device, config::load("configs/tiny_gemma.textproto").run);
  generator.start(4);
  const std::vector<int32_t> ids{3, 512};
  EXPECT_THROW((void)generator.extend(ids), UserError);
}

TEST(Sampler, GreedyTopKAndTopP) {
  const std::vector<float> logits{0.0f, 3.0f, 2.0f, 3.0f, -1.0f};
  SampleOptions greedy;
  greedy.temperature = 0;
  EXPECT_EQ(sample(logits, greedy, 0), 1);  // the lower id of two equals
  SampleOptions one;
  one.top_k = 1;
  SampleOptions narrow;
  narrow.top_p = 1e-9;
  SampleOptions two;
  two.top_k = 2;
  for (uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(sample(logits, one, i), 1);
    EXPECT_EQ(sample(logits, narrow, i), 1);
    const int32_t drawn = sample(logits, two, i);
    EXPECT_TRUE(drawn == 1 || drawn == 3) << drawn;
  }
}

TEST(Sampler, DrawsWithTheProbabilitiesOfTheSoftmax) {
  const std::vector<float> logits{std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  std::vector<double> counts(3);
  constexpr int kDraws = 20000;
  for (uint64_t i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sample(logits, {}, i))];
  // Four standard deviations of a binomial share.
  EXPECT_NEAR(counts[0] / kDraws, 0.5, 4 * std::sqrt(0.25 / kDraws));
  EXPECT_NEAR(counts[1] / kDraws, 0.3, 4 * std::sqrt(0.21 / kDraws));
}

TEST(Sampler, RefusesImpossibleOptions) {
  EXPECT_THROW(check(SampleOptions{-1, 0, 1, 1}), UserError);
  EXPECT_THROW(check(SampleOptions{1, -1, 1, 1}), UserError);
  EXPECT_THROW(check(SampleOptions{1, 0, 0, 1}), UserError);
  EXPECT_THROW(check(SampleOptions{std::nan(""), 0, 1, 1}), UserError);
}

}  // namespace
}  // namespace toroid::train
