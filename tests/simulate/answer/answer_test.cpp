// What a simulation says adds up, and agrees with figures worked out by hand.
#include "simulate/answer/answer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "simulate/answer/advice.h"
#include "simulate/answer/report.h"
#include "simulate/draw/timeline.h"
#include "tests/simulate/small_run.h"

namespace toroid::train {
namespace {

Answer answered(const config::RunConfig& run, const AnswerOptions& options = {}) {
  const Plugins plugins;
  const sim::Chip chip = testing::v5e();
  return answer(run, chip, simulate(run, chip, plugins), options);
}

TEST(SimulatedAnswer, the_split_adds_up_to_the_step) {
  const Answer found = answered(testing::small_run(), {.dispatch = Dispatch::sequential});
  EXPECT_GT(found.step.count(), 0);
  EXPECT_NEAR(found.split.total() / found.step, 1, 1e-9);
  for (const Seconds part : {found.split.products, found.split.memory_bound, found.split.torus,
                             found.split.pods, found.split.dispatch, found.split.bubbles})
    EXPECT_GE(part.count(), 0);
}

// 6 FLOPs a weight and token, and 12 x layers x heads x head_dim x T for each token's attention in full, of
// which causal counts about half (T + 1 of 2 T).
TEST(SimulatedAnswer, mfu_by_hand) {
  const Answer found = answered(testing::small_run());
  const double d = 512, layers = 3, heads = 8, width = 256, ffn = 1024, vocab = 4096, tokens = 512;
  const double layer = 2 * d * heads * width + 2 * d * width + 3 * d * ffn;  // q, o; k, v; gate, up, down
  const double weights = layers * layer + d * vocab;
  const double count = 8 * tokens, attention = 12 * layers * heads * width * tokens;
  const double peak = 1.97e14 * 32 * found.step.count();
  EXPECT_EQ(found.tokens_per_step, static_cast<int64_t>(count));
  EXPECT_NEAR(found.mfu_full_attention * peak / (count * (6 * weights + attention)), 1, 0.005);
  EXPECT_NEAR(found.mfu_causal * peak / (count * (6 * weights + attention / 2)), 1, 0.005);
  EXPECT_GT(found.hfu, found.mfu_causal);  // the recipe recomputes
}

// A batch that grows is played in its last phase, and the answer says so.
TEST(SimulatedAnswer, a_ramp_plays_its_last_phase) {
  const Answer plain = answered(testing::small_run());
  EXPECT_TRUE(plain.ramp.empty());
  const Answer found =
      answered(testing::small_run({"batch.ramp+={ global_sequences: 4 }",
                                   "batch.ramp+={ step: 5 global_sequences: 8 }", "train.steps=15"}));
  EXPECT_EQ(found.step, plain.step);
  EXPECT_EQ(found.tokens_per_step, 8 * 512);
  EXPECT_EQ(found.goal_tokens, (5 * 4 + 10 * 8) * 512);
  std::ostringstream text;
  print_answer(text, found);
  EXPECT_NE(text.str().find("batch.ramp: 4 sequences a step, 8 from step 5 on; a step of the last phase is "
                            "played"),
            std::string::npos)
      << text.str();
  EXPECT_EQ(nlohmann::json::parse(to_json(found)).at("batch_ramp").at("played"), "last");
}

TEST(SimulatedAnswer, more_than_a_peak_is_no_share) {
  EXPECT_EQ(share_text(0.52314), "52.31 %");
  EXPECT_EQ(share_text(1, 1), "100.0 %");
  EXPECT_EQ(share_text(1.716), "-");
  Answer found = answered(testing::small_run());
  found.mfu_causal = 1.716;
  std::ostringstream text;
  print_answer(text, found);
  EXPECT_EQ(text.str().find("171"), std::string::npos) << text.str();
  EXPECT_TRUE(nlohmann::json::parse(to_json(found)).at("mfu").at("causal").is_null());
}

TEST(SimulatedAnswer, time_energy_and_cost_to_the_goal) {
  sim::Chip chip = testing::v5e();
  chip.idle_watts = chip.busy_watts = 200;
  chip.price_per_hour = 2;
  const config::RunConfig run = testing::small_run();
  const Plugins plugins;
  const Answer found = answer(run, chip, simulate(run, chip, plugins), {.goal_tokens = 1e9, .dispatch = {}});
  const double seconds = 1e9 / 4096 * found.step.count();
  EXPECT_NEAR(found.time_to_goal.count() / seconds, 1, 1e-9);
  EXPECT_NEAR(found.energy_joules / (32 * 200 * seconds), 1, 1e-9);
  EXPECT_NEAR(found.cost_dollars / (32 * 2 * seconds / 3600), 1, 1e-9);
}

TEST(SimulatedAnswer, json_has_the_documented_fields) {
  const auto json = nlohmann::json::parse(to_json(answered(testing::small_run())));
  for (const char* field : {"/simulated",
                            "/chip",
                            "/constants",
                            "/chips",
                            "/pods",
                            "/roles",
                            "/tokens_per_step",
                            "/step_s",
                            "/split_s/products",
                            "/split_s/memory_bound",
                            "/split_s/exposed_ici",
                            "/split_s/exposed_dcn",
                            "/split_s/dispatch",
                            "/split_s/bubbles",
                            "/mfu/causal",
                            "/mfu/full_attention",
                            "/hfu",
                            "/tokens_per_s",
                            "/tokens_per_s_chip",
                            "/memory/peak_bytes",
                            "/memory/chip_bytes",
                            "/memory/fits",
                            "/memory/by_holder",
                            "/memory/by_phase",
                            "/links/0/name",
                            "/links/0/bytes",
                            "/links/0/utilisation",
                            "/goal/tokens",
                            "/goal/seconds",
                            "/goal/joules",
                            "/goal/dollars",
                            "/limit",
                            "/remedy"})
    EXPECT_TRUE(json.contains(nlohmann::json::json_pointer(field))) << field;
  EXPECT_EQ(json["simulated"], true);
}

TEST(SimulatedAnswer, the_page_is_headed_simulated) {
  std::ostringstream page;
  print_answer(page, answered(testing::small_run()));
  EXPECT_EQ(page.str().rfind("simulated: 32 chips of ", 0), 0u) << page.str();
}

TEST(SimulatedAnswer, the_timeline_ends_with_the_step_and_shows_links) {
  const Plugins plugins;
  const sim::Chip chip = testing::v5e();
  const config::RunConfig run = testing::small_run();
  SimulateOptions options;
  options.spans = true;
  const Simulation simulation = simulate(run, chip, plugins, options);
  const Path file =
      std::filesystem::temp_directory_path() / ("simulated_trace." + std::to_string(::getpid()));
  sim::Network network = network_of(run, chip);
  write_timeline(file, simulation.played, network);
  std::ifstream in(file);
  const auto json = nlohmann::json::parse(in);
  std::filesystem::remove(file);
  double end = 0, on_links = 0;
  for (const auto& row : json["traceEvents"]) {
    if (row["ph"] != "X") continue;
    if (row["tid"] >= 100) on_links += 1;
    end = std::max(end, row["ts"].get<double>() + row["dur"].get<double>());
  }
  EXPECT_NEAR(end / (simulation.played.step.count() * 1e6), 1, 1e-3);
  EXPECT_GT(on_links, 0);
}

TEST(SimulatedAnswer, what_would_help_is_a_sentence_with_a_figure) {
  const Plugins plugins;
  const sim::Chip chip = testing::v5e();
  const config::RunConfig run = testing::small_run();
  const std::string text = what_would_help(run, chip, simulate(run, chip, plugins), plugins);
  EXPECT_NE(text.find('%'), std::string::npos) << text;
  EXPECT_NE(text.find("links twice as fast would give"), std::string::npos) << text;
}

}  // namespace
}  // namespace toroid::train
