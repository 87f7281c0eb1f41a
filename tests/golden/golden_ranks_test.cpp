// The cases on several ranks: every data x model layout of 2, 4 and 8 ranks that a case's sizes allow,
// batches padded where the replicas are more than the sequences. The bounds are those of one rank
// (golden_test.cpp).
#include "tests/golden/golden_ranks.h"

#include <gtest/gtest.h>

#include "core/model/split.h"

namespace toroid::golden {
namespace {

using ::toroid::testing::LocalLayout;

std::vector<LocalLayout> layouts_of(const DecoderConfig& config, bool deterministic) {
  std::vector<LocalLayout> out;
  for (const int ranks : {2, 4, 8}) {
    for (int model = 1; model <= ranks; model *= 2) {
      if (why_not_split(config.heads, config.ffn, model, deterministic).empty())
        out.push_back({ranks / model, model});
    }
  }
  return out;
}

class GoldenRanks : public GoldenRanksFixture {};

TEST_P(GoldenRanks, TrainingFp32) {
  train::StepOptions options;
  options.compute = DType::f32;
  for (const LocalLayout& layout : layouts_of(golden_.config, options.deterministic)) {
    SCOPED_TRACE(layout.text());
    expect_golden(train(golden_, layout, options));
  }
}

TEST_P(GoldenRanks, TrainingDeterministic) {
  train::StepOptions options;
  options.compute = DType::f32;
  options.deterministic = true;
  for (const LocalLayout& layout : layouts_of(golden_.config, options.deterministic)) {
    options.keep_gathered = layout.data == 1;
    SCOPED_TRACE(layout.text());
    expect_golden(train(golden_, layout, options));
  }
}

// Products beside the rounds of their collectives, with inputs that are kept and with those that are gathered
// again.
TEST_P(GoldenRanks, TrainingRoundByRound) {
  train::StepOptions options;
  options.compute = DType::f32;
  for (const LocalLayout& layout : layouts_of(golden_.config, options.deterministic)) {
    if (layout.model == 1) continue;
    options.keep_gathered = layout.data > 1;
    options.remat = options.keep_gathered ? train::Remat::none : train::Remat::full;
    SCOPED_TRACE(layout.text());
    expect_golden(train(golden_, layout, options, Cut::always));
  }
}

// bf16 with partial sums that travel as bf16: within golden_test's bounds for one rank, which rounds no sum
// on its way.
TEST_P(GoldenRanks, Bf16SumsWithinTwiceTheReferencesDistance) {
  train::StepOptions options;
  options.compute = DType::bf16;
  options.model_wire = Wire::bf16;
  for (const LocalLayout& layout : layouts_of(golden_.config, options.deterministic)) {
    if (layout.model == 1) continue;
    SCOPED_TRACE(layout.text());
    expect_golden_in_bf16(train(golden_, layout, options, Cut::always));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenRanks, ::testing::ValuesIn(case_directories()), case_name);

}  // namespace
}  // namespace toroid::golden
