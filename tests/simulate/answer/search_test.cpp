// Searches: what is tried, that shortcuts change no figure, and one refusal by hand.
#include "simulate/answer/search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "core/base/error.h"
#include "tests/simulate/answers.h"

namespace toroid::test {
namespace {

using train::LayoutChoice;
using train::RankedLayout;
using train::Search;

// Gemma 7B on one pod, two sequences a replica.
config::RunConfig gemma_7b(const std::vector<std::string>& more = {}) {
  std::vector<std::string> overrides = {"mesh.pods=1", "batch.global_sequences=32"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return load(kGemma7b, overrides);
}

// A model that is searched in seconds, on eight chips.
config::RunConfig small(const std::vector<std::string>& more = {}) {
  std::vector<std::string> overrides = {
      "model={ d_model: 512 layers: 2 heads: 4 kv_heads: 1 head_dim: 128 "
      "ffn: 2048 vocab: 8192 }",
      "mesh={ torus: [2, 4] data: 4 model: 2 }", "batch={ tokens_per_sequence: 1024 global_sequences: 32 }"};
  overrides.insert(overrides.end(), more.begin(), more.end());
  return load(kGemma7b, overrides);
}

Search search(const config::RunConfig& run, const sim::Chip& chip = v5e()) {
  return train::search(run, chip, plugins(), answered, {});
}

train::Simulation simulate(const config::RunConfig& run, const LayoutChoice& layout) {
  return train::simulate(train::with_layout(run, layout), v5e(), plugins());
}

void expect_has(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << part << "\nis not in\n" << text;
}

TEST(Search, tries_what_the_chips_pod_has_room_for) {
  const auto tried = train::layout_choices(small(), v5e());
  std::vector<std::vector<int64_t>> shapes;
  for (const LayoutChoice& each : tried) {
    EXPECT_EQ(each.data * each.model, 8);
    if (std::find(shapes.begin(), shapes.end(), each.torus) == shapes.end()) shapes.push_back(each.torus);
    EXPECT_EQ(std::count(tried.begin(), tried.end(), each), 1) << each.text();
  }
  // 8 chips in a line, or 2 x 4 either way.
  std::sort(shapes.begin(), shapes.end());
  EXPECT_EQ(shapes, (std::vector<std::vector<int64_t>>{{2, 4}, {4, 2}, {8}}));
  // A pod of 256 is 16 x 16: no line of 256, no 8 x 32.
  for (const LayoutChoice& each : train::layout_choices(gemma_7b(), v5e()))
    EXPECT_EQ(each.torus, (std::vector<int64_t>{16, 16}));
  const LayoutChoice own = train::layout_of(gemma_7b());
  const auto large = train::layout_choices(gemma_7b(), v5e());
  EXPECT_EQ(std::count(large.begin(), large.end(), own), 1) << own.text();
}

TEST(Search, ranks_by_throughput_and_finds_the_configs_own_layout) {
  const config::RunConfig run = small();
  const Search found = search(run);
  int64_t refused = 0;
  for (const auto& each : found.refused) refused += each.count;
  EXPECT_EQ(found.tried, static_cast<int64_t>(found.ranked.size()) + refused);
  ASSERT_GT(found.ranked.size(), 10u);
  for (size_t i = 1; i < found.ranked.size(); ++i)
    EXPECT_GE(found.ranked[i - 1].tokens_per_s, 0.9998 * found.ranked[i].tokens_per_s) << i;
  ASSERT_NE(found.own(), nullptr) << found.own_refusal;
  EXPECT_EQ(found.own()->layout, train::layout_of(run));
  const auto own = train::simulate(run, v5e(), plugins());
  EXPECT_NEAR(found.own()->step.count(), own.played.step.count(), 1e-12);
  // Heads are split over the model axis: 4 of them over 8 ranks are not.
  const auto heads = std::find_if(found.refused.begin(), found.refused.end(), [](const auto& each) {
    return each.message ==
           "model.heads (4) is not a multiple of mesh.model (8), over whose ranks it is split";
  });
  ASSERT_NE(heads, found.refused.end());
  EXPECT_EQ(heads->example.model, 8);
}

// Three and four microbatches give the rest. Where collectives fall behind compute, later microbatches wait
// longer than the fourth: short steps are then a little optimistic, and what they put among the best is
// played in full. Gaps between blocks differ too: closer than 3 % to the chip's memory a layout is played in
// full as well.
TEST(Search, short_steps_give_the_figures_of_long_ones) {
  const config::RunConfig run = small();
  const Search found = search(run);
  int checked = 0;
  for (const RankedLayout& each : found.ranked) {
    if (each.in_full || each.microbatches < 8 || ++checked > 12) continue;
    const train::Simulation whole = simulate(run, each.layout);
    const double ratio = each.step.count() / whole.played.step.count();
    EXPECT_GT(ratio, 0.95) << each.layout.text();
    EXPECT_LT(ratio, 1.001) << each.layout.text();
    EXPECT_NEAR(static_cast<double>(each.memory.peak_bytes) /
                    static_cast<double>(whole.roles[whole.fullest].placed_bytes),
                1, 0.03)
        << each.layout.text();
    EXPECT_NEAR(each.split.total().count(), each.step.count(), 1e-9) << each.layout.text();
  }
  EXPECT_GT(checked, 5);
  for (size_t i = 0; i < 10; ++i) EXPECT_TRUE(found.ranked[i].in_full) << i;
}

// Why prefetch is tried at stage 3 alone.
TEST(Search, below_stage_3_prefetch_changes_nothing) {
  const config::RunConfig run = small();
  LayoutChoice layout = train::layout_of(run);
  for (const int64_t stage : {1, 2}) {
    layout.stage = stage;
    layout.prefetch = 0;
    const auto none = simulate(run, layout);
    layout.prefetch = 2;
    const auto two = simulate(run, layout);
    EXPECT_EQ(none.played.step.count(), two.played.step.count());
    EXPECT_EQ(none.roles[0].memory.bytes_peak, two.roles[0].memory.bytes_peak);
  }
}

// By hand, Gemma 7B (N = 8,538,074,112 parameters) with the data split 256 ways, model 1 and ZeRO-1, which
// shards the optimizer's state alone:
//   bf16 weights, gathered whole         2 N           = 17.076 GB
//     and the shard that was gathered    2 N / 256     =  0.067 GB
//   fp32 gradients, whole                4 N           = 34.152 GB
//     and this chip's reduced shard      4 N / 256     =  0.133 GB
//   master weights                       4 N / 256     =  0.133 GB
//   two moments                          8 N / 256     =  0.267 GB
//   the inputs of 28 layers, remat FULL  28 x 8192 x 3072 x 2 B = 1.409 GB
// 53.2 GB in all, and within a layer and the loss some more, of 16 GB: refused.
TEST(Search, one_refusal_by_hand) {
  const config::RunConfig run = gemma_7b();
  LayoutChoice layout = train::layout_of(run);
  layout.data = 256;
  layout.model = 1;
  layout.stage = 1;
  const train::Simulation done = simulate(run, layout);
  const Statistics& memory = done.roles[done.fullest].memory;
  const double n = 8'538'074'112;
  const auto expect_near = [&](const char* holder, double by_hand) {
    const auto found = memory.peak_by_holder.find(holder);
    ASSERT_NE(found, memory.peak_by_holder.end()) << holder;
    EXPECT_NEAR(static_cast<double>(found->second) / by_hand, 1, 0.005)
        << holder << ": " << found->second << " bytes, by hand " << by_hand;
  };
  expect_near("gathered weights", 2 * n + 2 * n / 256);
  expect_near("gradients", 4 * n + 4 * n / 256);
  expect_near("master weights", 4 * n / 256);
  expect_near("optimizer states", 8 * n / 256);
  const double inputs = 28.0 * 8192 * 3072 * 2;
  EXPECT_GT(static_cast<double>(memory.peak_by_holder.at("activations")), inputs);
  const double least = 6 * n + 18 * n / 256 + inputs;
  EXPECT_GT(static_cast<double>(memory.bytes_peak), least);
  EXPECT_LT(static_cast<double>(memory.bytes_peak), 1.05 * least);

  const Search found = search(run);
  for (const RankedLayout& each : found.ranked) {
    EXPECT_FALSE(each.layout.data == 256 && each.layout.stage < 3) << each.layout.text();
    EXPECT_LE(each.memory.peak_bytes, 16'000'000'000) << each.layout.text();
  }
  const auto refused = std::find_if(found.refused.begin(), found.refused.end(),
                                    [](const auto& each) { return each.reason == "does not fit in memory"; });
  ASSERT_NE(refused, found.refused.end());
  EXPECT_EQ(refused->example.data, 256) << refused->example.text();
  expect_has(refused->message, "of the chip's 16.00 GB: gathered weights 17.14 GB");
}

// What is refused without a record does not fit.
TEST(Search, nothing_that_fits_is_refused_unseen) {
  sim::Chip chip = v5e();
  const config::RunConfig run =
      small({"mesh={ torus: [2, 2] data: 2 model: 2 }", "batch.global_sequences=16"});
  std::vector<int64_t> peaks;
  for (const LayoutChoice& each : train::layout_choices(run, chip)) {
    if (run.model().heads() % each.model != 0) continue;
    const config::RunConfig other = train::with_layout(run, each);
    const sim::Network network(mesh::Mesh(other.mesh()), chip);
    int64_t peak = 0;
    for (const auto& role : train::record_roles(other, network.mesh(), chip, plugins()))
      peak = std::max(peak, role.placed_bytes);
    peaks.push_back(peak);
  }
  for (const int64_t bytes : {100'000'000, 150'000'000, 200'000'000}) {
    chip.memory_bytes = bytes;
    const Search found = search(run, chip);
    const auto fit = static_cast<size_t>(
        std::count_if(peaks.begin(), peaks.end(), [&](int64_t peak) { return peak <= bytes; }));
    EXPECT_EQ(found.ranked.size(), fit) << bytes << " bytes, " << found.not_recorded << " not recorded";
  }
}

TEST(Search, says_why_the_best_is_better) {
  const Search found = search(gemma_7b());
  ASSERT_NE(found.own(), nullptr);
  const std::string why = train::why_best(found);
  expect_has(why, "s a step, the config's own layout ");
  expect_has(why, " times the tokens/s, by ");
  expect_has(why, " memory (");
  std::ostringstream out;
  train::print_search(out, found, {});
  expect_has(out.str(),
             "simulated: layouts on 256 chips v5e (nominal constants, not validated) in 1 pod, 32 sequences "
             "of 8,192 "
             "tokens a step");
  expect_has(out.str(), "The config's own layout ranks ");
  expect_has(out.str(), "model.heads (16) is not a multiple of mesh.model (32)");
  expect_has(out.str(), "layouts tried in ");
  EXPECT_LT(found.took.count(), 60);
}

TEST(Search, an_own_layout_that_does_not_fit_says_so) {
  const Search found = search(gemma_7b({"mesh.data=256", "mesh.model=1", "zero.stage=1"}));
  EXPECT_EQ(found.own(), nullptr);
  EXPECT_FALSE(found.ranked.empty());
  expect_has(train::why_best(found),
             "The config's own layout does not run: does not fit in memory: needs 55.");
}

TEST(Search, where_nothing_runs_the_refusals_are_all_there_is) {
  sim::Chip chip = v5e();
  chip.memory_bytes = 1'000'000;
  const Search found = search(small(), chip);
  EXPECT_TRUE(found.ranked.empty());
  EXPECT_GT(found.not_recorded, 0);
  EXPECT_EQ(train::why_best(found), "No layout of those tried runs on these chips.");
  std::ostringstream out;
  train::print_search(out, found, {});
  expect_has(out.str(), "does not fit in memory: needs ");
}

}  // namespace
}  // namespace toroid::test
