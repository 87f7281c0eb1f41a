// Communication of a step over the ranks, and ranks that are slower than their peers.
#include "train/report/step_meter.h"

#include <gtest/gtest.h>

#include "parallel/mesh/mesh.pb.h"
#include "tests/parallel/local_world.h"
#include "tests/train/certify/local_layout.h"

namespace toroid::train {
namespace {

using Seen = std::vector<std::pair<int, bool>>;  // rank, recovered

Seen look(StragglerWatch& watch, const std::vector<double>& own_s) {
  Seen out;
  for (const auto& found : watch.look(own_s)) out.emplace_back(found.rank, found.recovered);
  return out;
}

TEST(Straggler, IsNamedOnceItHasBeenSlowForStepsInARow) {
  StragglerWatch watch(1.25, 3);
  const std::vector<double> even{1, 1.1, 1.2, 1}, slow{1, 1.1, 1.4, 1};
  EXPECT_EQ(look(watch, slow), Seen{});
  EXPECT_EQ(look(watch, slow), Seen{});
  EXPECT_EQ(look(watch, even), Seen{});  // the row is broken
  EXPECT_EQ(look(watch, slow), Seen{});
  EXPECT_EQ(look(watch, slow), Seen{});
  EXPECT_EQ(look(watch, slow), (Seen{{2, false}}));
  EXPECT_EQ(look(watch, slow), Seen{});  // once
  EXPECT_EQ(look(watch, even), Seen{});
  EXPECT_EQ(look(watch, even), Seen{});
  EXPECT_EQ(look(watch, even), (Seen{{2, true}}));
  EXPECT_EQ(look(watch, even), Seen{});
}

TEST(Straggler, IsMeasuredAgainstItsPeersAlone) {
  StragglerWatch two(1.25, 1);
  EXPECT_EQ(look(two, {1.3, 1}), (Seen{{0, false}}));  // 1.13 times the mean of both
  StragglerWatch equal(1.25, 1);
  EXPECT_EQ(look(equal, {1.3, 1.3, 1}), Seen{});
  StragglerWatch findings(2, 1);
  const auto found = findings.look(std::vector<double>{1, 2, 9, 3});
  ASSERT_EQ(found.size(), 1u);  // 3 is less than twice the median of 1, 2 and 9
  EXPECT_EQ(found[0].rank, 2);
  EXPECT_EQ(found[0].own_s, 9);
  EXPECT_EQ(found[0].peers_s, 2);
}

TEST(Straggler, IsNobodyAloneOrSwitchedOff) {
  StragglerWatch alone(1.25, 1), off(1.25, 0);
  EXPECT_EQ(look(alone, {5}), Seen{});
  EXPECT_EQ(look(off, {1, 5}), Seen{});
}

StepShare share(double took, double exposed, double under_way, std::vector<double> bytes) {
  return {Seconds(took), Seconds(exposed), Seconds(under_way), std::move(bytes)};
}

TEST(StepCommunication, IsTheMeanAndTheSlowest) {
  const std::vector<StepShare> ranks{share(10, 4, 5, {100, 0}), share(10, 1, 5, {300, 8}),
                                     share(11, 4, 8, {200, 4})};
  std::vector<StepShare> travelled;
  for (const StepShare& rank : ranks) travelled.push_back(share_of(to_numbers(rank)));
  const StepCommunication all = summarise(travelled);
  EXPECT_DOUBLE_EQ(all.exposed_s, 3);
  EXPECT_DOUBLE_EQ(all.under_way_s, 6);
  EXPECT_DOUBLE_EQ(*all.overlap, 0.5);
  EXPECT_DOUBLE_EQ(all.link_bytes[0], 200);
  EXPECT_DOUBLE_EQ(all.link_bytes[1], 4);
  EXPECT_EQ(all.slowest, 1);
  EXPECT_EQ(all.own_s, (std::vector<double>{6, 9, 7}));
  EXPECT_EQ(all.median_own_s(), 7);
}

TEST(StepCommunication, HasNoOverlapWhereNothingTravels) {
  const std::vector<StepShare> one{share(2, 0, 0, {0})};
  EXPECT_FALSE(summarise(one).overlap.has_value());
}

// Bytes of one step on links of a 2 x 2 torus with the twins in another pod, from the layout's formula.
TEST(StepMeter, CountsTheBytesOfAStepByDimension) {
  config::RunConfig run = small_config("heads: 4 kv_heads: 2");
  run.mutable_batch()->set_global_sequences(8);
  run.mutable_train()->set_deterministic(false);
  run.mutable_train()->set_precision(config::TrainConfig::FP32);
  parse_layouts("pods 2 of 2x2")[0].apply(run);
  config::validate(run);
  LocalJob job(8, {});
  std::vector<StepShare> shares(8);
  std::vector<double> flat(8);  // elements of all units
  const std::string failures = testing::run_rank_threads(8, [&](int rank) {
    const Plugins plugins;
    auto device = local_device(plugins);
    const CpuDevice& cpu = *device;
    const Engine engine = make_engine(run, job.world(rank), std::move(device), plugins);
    engine.program->initialise(1);
    for (const Unit& unit : engine.program->zero().units()) {
      flat[static_cast<size_t>(rank)] += static_cast<double>(unit.flat_elements);
    }
    StepMeter meter(cpu, *engine.world, mesh::Mesh(run.mesh()));
    engine.program->upload(host_batch(synthetic_batch(run, 0)), 1e-3);
    meter.begin();
    engine.program->step();
    StepShare& share = shares[static_cast<size_t>(rank)];
    share = meter.end();
    (void)engine.program->result(0);
    const StepMarks& marks = engine.program->marks();
    meter.time(share, marks.begin, marks.end);
    EXPECT_LE(share.exposed, share.took);
  });
  ASSERT_EQ(failures, "");
  int64_t along_data = 0;
  for (const PlannedWork::Bytes& each : planned_work(run).bytes) {
    if (each.axis == "data") along_data += each.bytes;
  }
  for (size_t rank = 0; rank < shares.size(); ++rank) {
    const StepShare& found = shares[rank];
    ASSERT_EQ(found.link_bytes.size(), 3u);
    EXPECT_GT(found.under_way.count(), 0);
    EXPECT_GE(found.exposed.count(), 0);
    EXPECT_GE(found.own().count(), 0);
    // One peer along each dimension and one across, each of which is sent a quarter of what is gathered or
    // scattered: half a message of the whole on the links of each dimension. Both dimensions are alike.
    EXPECT_EQ(found.link_bytes[0], static_cast<double>(along_data) / 2);
    EXPECT_EQ(found.link_bytes[1], static_cast<double>(along_data) / 2);
    // Each rank's quarter of the gradients, summed with its twin, half at each, and then handed back; with
    // the losses and nothing else.
    const double quarter = flat[rank];  // 4 bytes an element, over 4 ranks
    EXPECT_GE(found.link_bytes[2], quarter);
    EXPECT_LT(found.link_bytes[2], quarter + 64);
  }
}

}  // namespace
}  // namespace toroid::train
