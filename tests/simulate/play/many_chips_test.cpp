// As many unlike chips as are played: 16 pods of 256, of whose speeds no two are alike. How long it takes is
// printed and not judged.
#include <gtest/gtest.h>

#include <cstdio>

#include "core/base/clock.h"
#include "simulate/play/simulate.h"
#include "tests/simulate/small_run.h"

namespace toroid::train {
namespace {

TEST(ManyChips, FourThousandUnlikeOnesArePlayedOneByOne) {
  const config::RunConfig run = config::load("configs/gemma_7b_v5e_4096.textproto", {}).run;
  const sim::Chip chip = testing::v5e();
  const mesh::Mesh mesh = network_of(run, chip).mesh();
  ASSERT_EQ(mesh.world_size(), kMostPlayedChips);
  const std::vector<SimulatedRole> roles = record_roles(run, mesh, chip, Plugins());
  const sim::Played alike = play_step(run, chip, roles);
  SimulateOptions options;
  options.variation.jitter = 0.05;
  const Stopwatch watch;
  const sim::Played unlike = play_step(run, chip, roles, options);
  const double seconds = watch.elapsed().count();
  RecordProperty("played_in_s", std::to_string(seconds));
  std::printf("4,096 unlike chips: a step of %.3f s played in %.2f s\n", unlike.step.count(), seconds);
  EXPECT_GT(unlike.step, 1.05 * alike.step) << "the slowest of 4,096 is several deviations from the mean";
  EXPECT_LT(unlike.step, 1.5 * alike.step);
  // The chip that is shown is of middling speed: what it loses is waiting.
  EXPECT_NEAR(unlike.products / alike.products, 1, 0.01);
  EXPECT_GT(unlike.late, alike.late);
  EXPECT_EQ(play_step(run, chip, roles, options).step.count(), unlike.step.count());
}

}  // namespace
}  // namespace toroid::train
