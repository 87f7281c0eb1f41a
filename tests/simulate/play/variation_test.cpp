// Chips and links that are not as they should be.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "simulate/play/simulate.h"
#include "tests/simulate/small_run.h"

namespace toroid::train {
namespace {

sim::Played played(const config::RunConfig& run, const Variation& variation) {
  const Plugins plugins;
  SimulateOptions options;
  options.variation = variation;
  return simulate(run, testing::v5e(), plugins, options).played;
}

double step(const config::RunConfig& run, const Variation& variation) {
  return played(run, variation).step.count();
}

TEST(SimulatedVariation, chips_that_are_alike_take_as_long_one_by_one_as_by_role) {
  Variation each;
  each.stragglers.push_back({3, 1});
  for (const char* mesh : {"mesh.torus=[4,4]", "mesh.torus=[2,8]"}) {
    const config::RunConfig run = testing::small_run({mesh});
    EXPECT_NEAR(step(run, each) / step(run, {}), 1, 1e-6) << mesh;
  }
}

TEST(SimulatedVariation, one_straggler_takes_all_to_its_own_speed) {
  // Without collectives to hide behind, a chip that is twice as slow is what all wait for.
  const config::RunConfig run = testing::small_run();
  Variation one, all;
  one.stragglers.push_back({5, 2});
  for (int rank = 0; rank < 32; ++rank) all.stragglers.push_back({rank, 2});
  const double well = step(run, {}), slow = step(run, one), slowest = step(run, all);
  EXPECT_GT(slow, well);
  EXPECT_LE(slow, slowest * (1 + 1e-9));
  EXPECT_NEAR(slow / slowest, 1, 0.02);
}

double waiting(const sim::Played& step) {
  double sum = step.late.count();
  for (const Seconds waited : step.waited) sum += waited.count();
  return sum;
}

// What is shown is a chip of middling speed, whose own work is as it was.
TEST(SimulatedVariation, time_lost_to_a_straggler_is_waiting_and_not_work) {
  for (const char* schedule : {"toroid", "xla_2023"}) {
    SCOPED_TRACE(schedule);
    const config::RunConfig run = testing::small_run({std::string("simulate.schedule=") + schedule});
    Variation one;
    one.stragglers.push_back({5, 4});  // so slow that no collective hides it
    const sim::Played well = played(run, {}), slow = played(run, one);
    ASSERT_GT(slow.step.count(), 1.2 * well.step.count());
    EXPECT_NEAR(slow.products.count(), well.products.count(), 1e-9 * well.products.count());
    EXPECT_NEAR(slow.vector_bound.count(), well.vector_bound.count(), 1e-9 * well.step.count());
    EXPECT_NEAR(slow.memory_bound.count(), well.memory_bound.count(), 1e-9 * well.step.count());
    EXPECT_NEAR(waiting(slow) + slow.tail.count() - waiting(well) - well.tail.count(),
                (slow.step - well.step).count(), 1e-9 * well.step.count())
        << "all of what is lost";
    EXPECT_LT(well.late.count(), 0.01 * well.step.count()) << "chips that are alike come together";
  }
}

// Of a schedule, too, each chip is played and its links are the network's.
TEST(SimulatedVariation, chips_and_links_of_another_schedule_differ_as_well) {
  const config::RunConfig run = testing::small_run({"simulate.schedule=xla_2023"});
  Variation jitter, straggler, link, alike;
  jitter.jitter = 0.1;
  straggler.stragglers.push_back({5, 4});
  link.faults.push_back({0, 0.5});
  alike.stragglers.push_back({5, 1});
  const double well = step(run, {});
  EXPECT_NEAR(step(run, alike) / well, 1, 1e-6) << "one by one as by role";
  EXPECT_GT(step(run, jitter), 1.01 * well);
  EXPECT_GT(step(run, straggler), 1.2 * well);
  EXPECT_GT(step(run, link), 1.01 * well);
  EXPECT_NE(well, step(testing::small_run(), {})) << "another schedule";
  const sim::Played slow = played(run, straggler);
  EXPECT_NEAR(slow.products.count(), played(run, {}).products.count(), 1e-9 * slow.products.count());
}

TEST(SimulatedVariation, jitter_follows_the_seed_and_costs_time) {
  const config::RunConfig run = testing::small_run();
  Variation varied;
  varied.jitter = 0.1;
  const double first = step(run, varied);
  EXPECT_EQ(step(run, varied), first);
  EXPECT_GT(first, step(run, {}));
  varied.seed = 2;
  EXPECT_NE(step(run, varied), first);
}

TEST(SimulatedVariation, slow_and_dead_links_cost_time) {
  const config::RunConfig run = testing::recipe(
      {"mesh.pods=1", "batch.global_sequences=256", "model.layers=2", "batch.tokens_per_sequence=512"});
  Variation slow, dead;
  slow.faults.push_back({0, 0.5});
  dead.faults.push_back({0, 0});
  const double well = step(run, {});
  EXPECT_GT(step(run, slow), well);
  EXPECT_GT(step(run, dead), well);
}

TEST(SimulatedVariation, impossible_ones_are_refused) {
  const config::RunConfig run = testing::small_run();
  Variation no_rank, no_dimension, falls_apart;
  no_rank.stragglers.push_back({32, 2});
  no_dimension.faults.push_back({2, 0.5});
  falls_apart.faults.push_back({0, 0});  // 4 chips do not wrap
  EXPECT_THROW((void)step(run, no_rank), UserError);
  EXPECT_THROW((void)step(run, no_dimension), UserError);
  EXPECT_THROW((void)step(run, falls_apart), UserError);
}

}  // namespace
}  // namespace toroid::train
