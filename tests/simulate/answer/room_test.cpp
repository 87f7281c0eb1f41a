// What does not fit is refused with a way out that does.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "simulate/answer/advice.h"
#include "tests/simulate/small_run.h"

namespace toroid::train {
namespace {

std::string refusal(const config::RunConfig& run) {
  const Plugins plugins;
  const sim::Chip chip = testing::v5e();
  try {
    require_room(run, chip, simulate(run, chip, plugins), plugins);
  } catch (const UserError& error) {
    return error.what();
  }
  return "";
}

std::vector<std::string> two_sequences(const std::string& remat) {
  return {"batch.sequences_per_replica=2", "batch.global_sequences=1024", "train.remat=" + remat};
}

TEST(SimulatedRoom, gemma_2b_fits_with_one_sequence_and_not_with_two_stored_ones) {
  EXPECT_EQ(refusal(testing::recipe({})), "");
  for (const char* remat : {"NONE", "CHEAP"}) {
    const std::string text = refusal(testing::recipe(two_sequences(remat)));
    for (const char* part : {"takes ", "and chip v5e has 16.00 GB", "the most is held by activations",
                             "it would take ", " and fit"})
      EXPECT_NE(text.find(part), std::string::npos) << text;
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
  }
}

// Stored results of products of one sequence of T tokens and a layer, in bf16: q, k, v, the attention's and
// its projection's, both halves of the MLP and its result: N H + 2 K H + N H + D + 2 F + D elements a token.
TEST(SimulatedRoom, saved_activations_are_those_worked_out_by_hand) {
  const config::RunConfig run = testing::recipe(two_sequences("CHEAP"));
  const Plugins plugins;
  const Simulation simulation = simulate(run, testing::v5e(), plugins);
  const auto& holders = simulation.roles[simulation.fullest].memory.peak_by_holder;
  const double tokens = 2 * 8192, layers = 18, elements = 2048 + 2 * 256 + 2048 + 2048 + 2 * 16384 + 2048;
  const double by_hand = tokens * layers * elements * 2;
  EXPECT_NEAR(static_cast<double>(holders.at("activations")) / by_hand, 1, 0.05);
}

TEST(SimulatedRoom, the_change_that_is_named_fits) {
  const std::string text = refusal(testing::recipe(two_sequences("NONE")));
  EXPECT_NE(text.find("with train.remat=FULL it would take"), std::string::npos) << text;
  EXPECT_EQ(refusal(testing::recipe(two_sequences("FULL"))), "");
}

}  // namespace
}  // namespace toroid::train
