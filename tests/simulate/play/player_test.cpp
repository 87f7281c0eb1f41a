// Steps written by hand, played on simulated links. Times are seconds: an operator of s seconds reads s 1e9
// bytes, and an all_gather of s 1e9 bytes over a ring of four takes s.
#include "simulate/play/player.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "tests/simulate/play/script.h"

namespace toroid::sim {
namespace {

Played play_on(const std::string& mesh, const std::vector<Script>& scripts, std::vector<PlayedChip> chips,
               double hop = 0, const PlayOptions& options = {}) {
  const Chip chip = chip_with_hops(hop);
  Network network(mesh_of(mesh), chip);
  std::vector<StepRecords> roles;
  for (const Script& script : scripts) roles.push_back({script.records, {}});
  return play(chip, network, roles, chips, options);
}

const std::string kSquare = "torus: [4, 4] data: 4 model: 4";

double step_of(const Script& script, double hop = 0) {
  return play_on(kSquare, {script}, {{0, 1.0, {}}}, hop).step.count();
}

TEST(Player, QueuesRunInOrderAndBesideEachOther) {
  Script script;
  script.op(1);
  script.gather(4);
  script.op(2);
  script.op(0.5, Queue::host);
  const Played played = play_on(kSquare, {script}, {{0, 1.0, {}}});
  EXPECT_NEAR(played.step.count(), 4, 1e-9);
  EXPECT_NEAR(played.memory_bound.count(), 3, 1e-9);
  EXPECT_NEAR(played.tail.count(), 1, 1e-9) << "the gather outlasts the operators";
  EXPECT_NEAR(played.busy[static_cast<size_t>(Queue::gather)].count(), 4, 1e-9);
  EXPECT_NEAR(played.link_bytes[0] + played.link_bytes[1], 4e9 * 3 / 4, 1);
  EXPECT_NEAR(played.link_seconds[0], 4, 1e-9);
}

TEST(Player, WaitsForTheTicketItNames) {
  Script script;
  const uint64_t first = script.gather(1);
  script.gather(5);
  script.wait(Queue::compute, Queue::gather, first);
  const uint64_t done = script.op(2, Queue::compute, Phase::backward);
  script.wait(Queue::reduce, Queue::compute, done);
  script.gather(1, "model", Queue::reduce);
  const Played played = play_on(kSquare, {script}, {{0, 1.0, {}}});
  EXPECT_NEAR(played.step.count(), 6, 1e-9);
  EXPECT_NEAR(played.waited[static_cast<size_t>(Queue::gather)].count(), 1, 1e-9);
  EXPECT_NEAR(played.phases[static_cast<size_t>(Phase::backward)].count(), 3, 1e-9)
      << "the wait and the operator";
}

// A step begins after others: what came before has passed. What the recorder does not keep takes no time.
TEST(Player, TicketsWithoutRecordsPassWithTheEntriesAroundThem) {
  Script script;
  script.skip(Queue::host, 4).skip(Queue::gather, 7);
  script.wait(Queue::compute, Queue::host, 4).wait(Queue::compute, Queue::gather, 7);
  script.op(1);
  script.op(1, Queue::host);
  script.skip(Queue::host, 1);
  script.wait(Queue::compute, Queue::host, 6);
  const uint64_t last = script.op(1);
  script.wait(Queue::host, Queue::compute, last);
  script.op(1, Queue::host);
  script.skip(Queue::host, 2);
  script.wait(Queue::compute, Queue::host, 9);
  script.op(1);
  EXPECT_NEAR(step_of(script), 4, 1e-9);
}

TEST(Player, TwoOnTheSameLinksTakeTwiceAsLong) {
  Script script;
  script.gather(1);
  script.gather(1, "data", Queue::reduce);
  EXPECT_NEAR(step_of(script), 2, 1e-9);
  Script three = script;
  three.gather(1, "data", Queue::pod);
  EXPECT_NEAR(step_of(three), 3, 1e-9);
}

TEST(Player, TwoOnDifferentDimensionsDoNotMeet) {
  Script script;
  script.gather(1);
  script.gather(1, "model", Queue::model);
  EXPECT_NEAR(step_of(script), 1, 1e-9);
}

TEST(Player, OneThatStartsWithinAnotherSharesWhatIsLeft) {
  // One second alone, then halves: the short one ends a second later, the long one has half a second left.
  Script script;
  script.gather(2);
  const uint64_t begun = script.op(1);
  script.wait(Queue::reduce, Queue::compute, begun);
  const uint64_t ended = script.gather(0.5, "data", Queue::reduce);
  script.wait(Queue::compute, Queue::reduce, ended);
  script.op(0);
  const Played played = play_on(kSquare, {script}, {{0, 1.0, {}}});
  EXPECT_NEAR(played.step.count(), 2.5, 1e-9);
  EXPECT_NEAR(played.busy[static_cast<size_t>(Queue::gather)].count(), 2.5, 1e-9);
  EXPECT_NEAR(played.busy[static_cast<size_t>(Queue::reduce)].count(), 1, 1e-9);
}

// Max-min: a ring that goes one way only leaves the other direction to the one that goes both ways, and a
// third on other links is not held back.
TEST(Player, SharesAreMaxMinFair) {
  Script script;
  script.gather(2);
  script.gather(1, "data", Queue::reduce);
  script.change([](CollectiveInfo& info) { info.method = "ring"; });  // 2 seconds alone, of one direction
  script.gather(1, "model", Queue::model);
  const Played played = play_on(kSquare, {script}, {{0, 1.0, {}}});
  EXPECT_NEAR(played.busy[static_cast<size_t>(Queue::model)].count(), 1, 1e-9);
  EXPECT_NEAR(played.step.count(), 4, 1e-9);
}

TEST(Player, LatenciesAreNotStretched) {
  Script script;
  script.gather(1);
  script.gather(1, "data", Queue::reduce);
  EXPECT_NEAR(step_of(script, 0.1), 2, 1e-9) << "two hops are over before the bytes are";
  EXPECT_NEAR(step_of(script, 0.75), 1.5 - 1 + 2, 1e-9) << "what the hops take beyond the bytes";
  Script small;
  small.gather(0);
  small.gather(0, "data", Queue::reduce);
  EXPECT_NEAR(step_of(small, 0.1), 2 * 0.1, 1e-9);
}

TEST(Player, ACollectiveWaitsForTheLastOfItsGroup) {
  Script script;
  const uint64_t begun = script.op(1);
  script.wait(Queue::gather, Queue::compute, begun);
  const uint64_t there = script.gather(1);
  script.wait(Queue::compute, Queue::gather, there);
  script.op(1);
  const std::vector<PlayedChip> alike = {{0, 1.0, {}}, {0, 1.0, {}}, {0, 1.0, {}}};
  EXPECT_NEAR(play_on(kSquare, {script}, alike).step.count(), 3, 1e-9);
  std::vector<PlayedChip> slow = alike;
  slow[1].slowness = 3;
  EXPECT_NEAR(play_on(kSquare, {script}, slow).step.count(), 3 + 1 + 3, 1e-9);
  // In groups of their own the others do not wait.
  for (int c = 0; c < 3; ++c) slow[static_cast<size_t>(c)].group = {c, 0, 0};
  const Played apart = play_on(kSquare, {script}, slow);
  EXPECT_NEAR(apart.step.count(), 7, 1e-9);
  EXPECT_NEAR(apart.waited[static_cast<size_t>(Queue::gather)].count(), 1, 1e-9);
}

TEST(Player, RolesFollowTheirOwnRecords) {
  std::vector<Script> roles(3);
  for (int r = 0; r < 3; ++r) {
    Script& script = roles[static_cast<size_t>(r)];
    const uint64_t begun = script.op(1 + r);
    script.wait(Queue::gather, Queue::compute, begun);
    const uint64_t there = script.gather(1);
    script.wait(Queue::compute, Queue::gather, there);
    script.op(3 - r);
  }
  const Played played = play_on(kSquare, roles, {{0, 1.0, {}}, {1, 1.0, {}}, {2, 1.0, {}}});
  EXPECT_NEAR(played.step.count(), 3 + 1 + 3, 1e-9) << "the slowest before and the slowest after";
  EXPECT_NEAR(played.memory_bound.count(), 4, 1e-9) << "of the chip that was done last";
  EXPECT_NEAR(played.waited[static_cast<size_t>(Queue::gather)].count(), 1, 1e-9);
  EXPECT_NEAR(played.late.count(), 2, 1e-9) << "the chip's wait for the slowest is not the links'";
}

// A few dozen operators and collectives, with waits between queues that a step could have.
Script random_script(uint32_t seed) {
  std::mt19937 random(seed);
  const auto upto = [&](uint32_t most) { return random() % (most + 1); };
  Script script;
  std::array<uint64_t, kQueues> last{};
  const std::array<Queue, 3> queues = {Queue::gather, Queue::reduce, Queue::model};
  for (int i = 0; i < 30; ++i) {
    const Queue queue = queues[upto(2)];
    if (upto(2) == 0) {
      script.wait(queue, Queue::compute, last[0]);
      last[static_cast<size_t>(queue)] =
          script.gather(0.1 * upto(9), queue == Queue::model ? "model" : "data", queue);
    } else {
      if (upto(1) == 0) script.wait(Queue::compute, queue, last[static_cast<size_t>(queue)]);
      last[0] = script.op(0.1 * upto(9));
    }
  }
  return script;
}

TEST(Player, AStepIsNoShorterThanItsOperators) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    const Script script = random_script(seed);
    const Played played = play_on(kSquare, {script}, {{0, 1.0, {}}}, 0.01);
    double sum = 0;
    for (const Record& record : script.records) sum += static_cast<double>(record.cost.bytes_read) / kSecond;
    EXPECT_NEAR((played.products + played.memory_bound).count(), sum, 1e-6) << seed;
    EXPECT_GE(played.step.count(), sum - 1e-6) << seed;
    EXPECT_EQ(played.late.count(), 0) << "one chip is never late, seed " << seed;
    double parts = sum + played.tail.count();
    for (const Seconds waited : played.waited) parts += waited.count();
    EXPECT_NEAR(parts, played.step.count(), 1e-6) << "operators, waits and tail make the step, seed " << seed;
  }
}

// Every chip of a pod with the number of its groups, as the mesh has them.
std::vector<PlayedChip> all_chips(const mesh::Mesh& mesh) {
  std::vector<PlayedChip> out;
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    const mesh::Coordinate at = mesh.coordinate(rank);
    out.push_back(
        {0, 1.0, {at.pod * mesh.model() + at.model, at.pod * mesh.data() + at.data, rank % mesh.pod_size()}});
  }
  return out;
}

// One chip stands for all that do the same, also where two axes share a dimension's links.
TEST(Player, OneChipStandsForAllThatAreAlike) {
  for (const char* mesh : {"torus: [16, 16] data: 16 model: 16", "torus: [16, 16] data: 64 model: 4",
                           "torus: [4, 4] data: 4 model: 4 pods: 2", "torus: 16 data: 4 model: 4"}) {
    for (const uint32_t seed : {1u, 2u, 3u}) {
      const Script script = random_script(seed);
      const Played one = play_on(mesh, {script}, {{0, 1.0, {}}}, 0.01);
      const Played all = play_on(mesh, {script}, all_chips(mesh_of(mesh)), 0.01);
      EXPECT_NEAR(all.step / one.step, 1, 1e-9) << mesh << ", seed " << seed;
      for (size_t q = 0; q < kQueues; ++q)
        EXPECT_NEAR(all.waited[q].count(), one.waited[q].count(), 1e-6) << mesh << ", seed " << seed;
    }
  }
}

// Two axes within one dimension have the same links.
TEST(Player, AxesThatShareADimensionMeet) {
  Script script;
  script.gather(1);
  const double data = play_on("torus: 16 data: 4 model: 4", {script}, {{0, 1.0, {}}}).step.count();
  Script other;
  other.gather(1, "model", Queue::model);
  const double model = play_on("torus: 16 data: 4 model: 4", {other}, {{0, 1.0, {}}}).step.count();
  script.gather(1, "model", Queue::model);
  const Played both =
      play_on("torus: 16 data: 4 model: 4", {script}, all_chips(mesh_of("torus: 16 data: 4 model: 4")));
  EXPECT_NEAR(both.step.count(), data + model, 1e-9);
}

// A slow chip holds its two groups back, and whoever waits for these.
TEST(Player, OneSlowChipOfManyHoldsItsGroupsBack) {
  Script script;
  const uint64_t begun = script.op(1);
  script.wait(Queue::gather, Queue::compute, begun);
  script.wait(Queue::compute, Queue::gather, script.gather(1));
  const mesh::Mesh mesh = mesh_of("torus: [4, 4] data: 4 model: 4");
  std::vector<PlayedChip> chips = all_chips(mesh);
  chips[5].slowness = 2;
  script.op(1);
  EXPECT_NEAR(play_on(kSquare, {script}, chips).step.count(), 2 + 1 + 2, 1e-9);
}

TEST(Player, WhatNeverHappensIsAnError) {
  Script cycle;
  cycle.wait(Queue::compute, Queue::gather, 1);
  cycle.op(1);
  cycle.wait(Queue::gather, Queue::compute, 1);
  cycle.gather(1);
  EXPECT_THROW(step_of(cycle), InternalError);
  Script issues, does_not;
  issues.gather(1);
  does_not.op(1);
  const std::vector<PlayedChip> chips = {{0, 1.0, {}}, {1, 1.0, {}}};
  EXPECT_THROW(play_on(kSquare, {issues, does_not}, chips), InternalError);
  Script larger;
  larger.gather(2);
  EXPECT_THROW(play_on(kSquare, {issues, larger}, chips), InternalError) << "not the same collective";
  Script everybody;
  everybody.gather(1, "all");
  EXPECT_THROW(step_of(everybody), InternalError);
  EXPECT_THROW(play_on(kSquare, {issues}, {}), InternalError);
}

TEST(Player, IsTheSameEveryTime) {
  const Script script = random_script(11);
  const mesh::Mesh mesh = mesh_of("torus: [4, 4] data: 4 model: 4");
  std::vector<PlayedChip> chips = all_chips(mesh);
  std::mt19937 random(5);
  for (PlayedChip& chip : chips) chip.slowness = 1 + 1e-3 * (random() % 100);
  const PlayOptions options{.spans = true, .schedule = {}};
  const Played a = play_on(kSquare, {script}, chips, 0.01, options),
               b = play_on(kSquare, {script}, chips, 0.01, options);
  EXPECT_EQ(a.step.count(), b.step.count());
  EXPECT_EQ(a.waited, b.waited);
  EXPECT_EQ(a.link_seconds, b.link_seconds);
  ASSERT_EQ(a.spans.size(), b.spans.size());
  for (size_t i = 0; i < a.spans.size(); ++i) {
    EXPECT_EQ(a.spans[i].begin.count(), b.spans[i].begin.count());
    EXPECT_EQ(a.spans[i].end.count(), b.spans[i].end.count());
    EXPECT_LE(a.spans[i].begin.count(), a.spans[i].end.count());
  }
}

}  // namespace
}  // namespace toroid::sim
