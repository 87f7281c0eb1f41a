// The certificate: every layout gives one rank's bits and shares its work, reports survive the way through a
// file, and what differs is named.
#include "train/certify/certificate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "tests/train/certify/local_layout.h"

namespace toroid::train {
namespace {

LayoutRun made_up() {
  LayoutRun run;
  run.layout = "2x2";
  run.steps = {{2.5, 0.125, 0xfedcba9876543210u, 7}, {0.1, std::nan(""), 0, ~uint64_t{0}}};
  run.work.resize(2);
  run.work[0].flops = {{"forward attention", (int64_t{1} << 60) + 1}};
  run.work[0].bytes = {{"data all_gather", int64_t{1} << 50}, {"pod all_reduce", 0}};
  return run;
}

TEST(Certificate, TextReadsBackBitForBit) {
  const LayoutRun run = made_up();
  const LayoutRun again = layout_run(to_text(run), "a test");
  EXPECT_EQ(again.layout, "2x2");
  EXPECT_TRUE(compare_bits(run, again).passed) << "NaN included";
  ASSERT_EQ(again.work.size(), 2u);
  EXPECT_EQ(again.work, run.work);
}

TEST(Certificate, MalformedReportsAreRefused) {
  const std::string good = to_text(made_up());
  for (const std::string& text :
       {std::string(), good.substr(0, good.size() - 1), std::string("{}"), std::string("[]"),
        std::string(R"({"layout":"1x1","steps":[{"loss":"xyz"}],"work":[]})"),
        std::string(R"({"layout":"1x1","steps":[{"loss":1}],"work":[]})"),
        std::string(R"({"layout":"1x1","steps":7,"work":[]})"),
        std::string(R"({"layout":"1x1","steps":[],"work":[{"flops":{},"bytes":{"data":0.5}}]})")}) {
    try {
      (void)layout_run(text, "the report");
      ADD_FAILURE() << text;
    } catch (const UserError& error) {
      EXPECT_NE(std::string(error.what()).find("the report"), std::string::npos) << error.what();
    }
  }
}

TEST(Certificate, ADifferenceIsNamedWithItsStep) {
  const LayoutRun one = made_up();
  const auto findings = [&](const auto& spoil) {
    LayoutRun other = one;
    other.layout = "4x1";
    spoil(other);
    const Verdict verdict = compare_bits(one, other);
    EXPECT_EQ(verdict.passed, verdict.findings.empty());
    return verdict.findings;
  };
  EXPECT_TRUE(findings([](LayoutRun&) {}).empty());
  const auto loss = findings([](LayoutRun& run) { run.steps[0].loss = std::nextafter(2.5, 3); });
  ASSERT_EQ(loss.size(), 1u);
  EXPECT_EQ(loss[0], "4x1, step 1: the loss is 2.5000000000000004, but 2.5 under 2x2");
  EXPECT_EQ(findings([](LayoutRun& run) { run.steps[1].gradient_norm = 1; }).size(), 1u);
  EXPECT_EQ(findings([](LayoutRun& run) { run.steps[0].weights ^= 1; }).size(), 1u);
  EXPECT_EQ(findings([](LayoutRun& run) { run.steps[1].moments = run.steps[1].weights = 3; }).size(), 2u);
  EXPECT_EQ(findings([](LayoutRun& run) { run.steps.pop_back(); }).size(), 1u);
  EXPECT_EQ(findings([](LayoutRun& run) {
              run.steps[0].loss = 1;
              run.steps[1].loss = 1;
            }).size(),
            1u)
      << "the first step that differs is enough";
}

TEST(Certificate, DeviationIsTheLargestRelativeOne) {
  LayoutRun one, two;
  one.steps = {{2, 4, 0, 0}, {1, 1, 0, 0}};
  two.steps = {{2.5, 4, 1, 1}, {1, 0.5, 1, 1}};
  EXPECT_DOUBLE_EQ(deviation(one, two), 0.5);
  EXPECT_EQ(deviation(one, one), 0);
  two.steps[1].loss = std::nan("");
  EXPECT_TRUE(std::isinf(deviation(one, two))) << "no number is within a bound";
}

TEST(Certificate, ItsConfigClipsAndHasTwoMicrobatches) {
  const auto layouts = parse_layouts("1x1; model 2 of 4x2; pods 2 of 2x2");
  const config::RunConfig run = certified_config(small_config("heads: 4 kv_heads: 1"), layouts, 3);
  EXPECT_EQ(run.batch().global_sequences(), 16) << "of 8 replicas";
  EXPECT_EQ(run.train().steps(), 3);
  const LayoutRun one = run_locally(run, layouts[0]);
  for (const CertifiedStep& step : one.steps) EXPECT_GT(step.gradient_norm, run.optim().clip_norm());
}

struct Family {
  const char *name, *model;
};

class CertifiedFamily : public ::testing::TestWithParam<Family> {};

void expect_one_ranks_bits(const config::RunConfig& run, const std::vector<Layout>& layouts) {
  const LayoutRun one = run_locally(run, layouts[0]);
  ASSERT_EQ(one.steps.size(), 3u);
  EXPECT_TRUE(std::isfinite(one.steps.back().loss));
  EXPECT_NE(one.steps[0].weights, one.steps[1].weights) << "it learns";
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(layout.text());
    const LayoutRun other = run_locally(run, layout);
    const Verdict verdict = compare_bits(one, other);
    EXPECT_TRUE(verdict.passed) << (verdict.findings.empty() ? "" : verdict.findings[0]);
    config::RunConfig planned = run;
    layout.apply(planned);
    const auto findings = compare_work(planned_work(planned), other.work);
    EXPECT_TRUE(findings.empty()) << findings[0];
    int64_t most = 0;
    for (const RankWork& rank : other.work) most = std::max(most, rank.all_flops());
    EXPECT_LE(most * layout.ranks(), 3 * one.work[0].all_flops() / 2) << "the work is shared";
  }
}

TEST_P(CertifiedFamily, EveryLayoutHasOneRanksBitsAndItsShareOfTheWork) {
  const auto layouts = parse_layouts(
      "1x1; 2x2; zero 0,1,2,3; 4x1; 1x4; pods 2 of 2x1; pods 2 of 2x1 zero 0; model 2 of 2x2; "
      "model 4 of 2x2; model 2 of 2x2 zero 1; pods 2 of model 2 of 1x2");
  expect_one_ranks_bits(certified_config(small_config(GetParam().model), layouts, 3), layouts);
}

TEST(Certificate, EveryRuleHasOneRanksBits) {
  const auto layouts = parse_layouts("1x1; 2x2; zero 1,2,3; pods 2 of 2x1; model 2 of 2x2; model 4 of 2x2");
  for (const char* rule : {"optim.muon={}", "optim.lion={}", "optim.sgd={ nesterov: true }"}) {
    SCOPED_TRACE(rule);
    expect_one_ranks_bits(certified_config(small_config("heads: 4 kv_heads: 2", {rule}), layouts, 3),
                          layouts);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Tiny, CertifiedFamily,
    ::testing::Values(Family{"mqa", "heads: 4 kv_heads: 1"}, Family{"gqa", "heads: 4 kv_heads: 2"},
                      Family{"mha_untied", "heads: 4 kv_heads: 4 tied_head: false"},
                      Family{"gemma2",
                             "heads: 4 kv_heads: 2 post_norms: true attention_softcap: 5 "
                             "logit_softcap: 3 window: 6 layer_pattern: [LOCAL, GLOBAL]"},
                      Family{"gemma3",
                             "heads: 4 kv_heads: 1 post_norms: true qk_norm: true window: 6 "
                             "layer_pattern: [LOCAL, GLOBAL] rope { base: 1e6 local_base: 1e4 }"},
                      Family{"parallel", "heads: 4 kv_heads: 2 parallel_layers: true"},
                      Family{"parallel_plain_mqa", "heads: 4 kv_heads: 1 parallel_layers: true mlp: PLAIN"}),
    [](const auto& c) { return c.param.name; });

TEST(Certificate, TheFastModeStaysWithinItsBound) {
  const auto layouts = parse_layouts("1x1; 2x2; 4x1 zero 1; pods 2 of 2x1; model 2 of 2x2");
  config::RunConfig run = certified_config(small_config("heads: 4 kv_heads: 1"), layouts, 4);
  run.mutable_train()->set_deterministic(false);
  const LayoutRun one = run_locally(run, layouts[0]);
  config::RunConfig exact = run;
  exact.mutable_train()->set_precision(config::TrainConfig::FP32);
  const double bound = 2 * deviation(run_locally(exact, layouts[0]), one);
  EXPECT_GT(bound, 0);
  for (const Layout& layout : layouts) {
    EXPECT_LE(deviation(one, run_locally(run, layout)), bound) << layout.text();
  }
}

}  // namespace
}  // namespace toroid::train
