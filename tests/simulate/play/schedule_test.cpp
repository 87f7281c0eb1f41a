// How programs run their step: what files of configs/schedules say, what they may not, and what their
// collectives ask of the links.
#include "simulate/play/schedule.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/error.h"
#include "simulate/play/chips.h"
#include "tests/simulate/play/simulated_chip.h"
#include "train/config/load.h"

namespace toroid::sim {
namespace {

using train::parse_schedule;
using train::read_schedule;

std::string refusal(const std::function<void()>& what) {
  try {
    what();
  } catch (const UserError& error) {
    return error.what();
  }
  return "was accepted";
}

TEST(Schedules, EveryFileReadsAndIsNamedAfterIt) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator("configs/schedules")) {
    SCOPED_TRACE(entry.path());
    ASSERT_EQ(entry.path().extension(), ".textproto");
    EXPECT_EQ(read_schedule(entry.path().string(), {}).name, entry.path().stem().string());
    EXPECT_EQ(read_schedule(entry.path().stem().string(), {}).name, entry.path().stem().string());
    ++files;
  }
  EXPECT_GE(files, 2);
}

// What a config without simulate.schedule is played by is what the file of that name says.
TEST(Schedules, ToroidsOwnIsTheDefault) {
  const Schedule none, file = read_schedule("toroid", {});
  EXPECT_EQ(file.name, none.name);
  EXPECT_EQ(file.within_pod, none.within_pod);
  EXPECT_EQ(file.between_pods, none.between_pods);
  EXPECT_EQ(file.in_squares, none.in_squares);
  EXPECT_EQ(file.sums_in_bf16, none.sums_in_bf16);
  EXPECT_EQ(file.dispatch, none.dispatch);
}

TEST(Schedules, FieldsAreReadAsTheyAreWritten) {
  const Schedule all = parse_schedule(
      "within_pod: NOTHING between_pods: OPERATORS_BUT_LATENCIES pod_reduction: IN_SQUARES partial_sums: "
      "BF16 dispatch: NO_CONTROLLER",
      "folder/mine.textproto");
  EXPECT_EQ(all.name, "mine");
  EXPECT_EQ(all.within_pod, Schedule::Beside::nothing);
  EXPECT_EQ(all.between_pods, Schedule::Beside::operators_but_latencies);
  EXPECT_TRUE(all.in_squares);
  EXPECT_TRUE(all.sums_in_bf16);
  EXPECT_EQ(all.dispatch, Dispatch::none);
  EXPECT_EQ(parse_schedule("dispatch: SEQUENTIAL", "x").dispatch, Dispatch::sequential);
  EXPECT_EQ(parse_schedule("between_pods: NOTHING", "x").between_pods, Schedule::Beside::nothing);
}

TEST(Schedules, AChipDoesNotStandStillForItsOwnLinks) {
  EXPECT_EQ(refusal([] { (void)parse_schedule("within_pod: OPERATORS_BUT_LATENCIES", "mine"); }),
            "mine: within_pod is OPERATORS_BUT_LATENCIES; a chip does not stand still for the hops of its "
            "own links: OPERATORS or NOTHING");
}

TEST(Schedules, UnknownOnesAreRefusedWithTheNamesThereAre) {
  const std::string text = refusal([] { (void)read_schedule("xla_2032", {}); });
  for (const char* part : {"there is no schedule 'xla_2032'", "did you mean xla_2023?", "known are toroid"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
  EXPECT_NE(refusal([] { (void)read_schedule("configs/schedules/none.textproto", {}); }), "was accepted");
}

// Programs that had rules of their own are gone; whoever names one learns what took their place.
TEST(Schedules, ProgramsAreRefusedByTheNameOfWhatReplacesThem) {
  const std::string text = refusal([] {
    (void)config::load("configs/gemma_2b_v5e_512.textproto",
                       std::vector<std::string>{"simulate.program=maxtext"});
  });
  for (const char* part : {"simulate.program is \"maxtext\"", "simulate.schedule", "xla_2023"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

// 1 byte/s between pods, 1 s a step of a ring and none to start, so that latencies are steps.
Chip counting() {
  return chip_of(kTorus,
                 "host { chips: 1 cards: 1 card_bytes_per_s: 1e9 pcie_bytes_per_s: 1e9 ring_step_s: 1 }");
}

CollectiveInfo between(int pods, const std::string& operation, double bytes = 0) {
  CollectiveInfo info;
  info.operation = operation;
  info.axis = "pod";
  info.ranks = pods;
  info.method = "ring";
  info.bytes = info.wire_bytes = static_cast<int64_t>(bytes);
  return info;
}

Schedule in_squares() {
  Schedule out;
  out.in_squares = true;
  return out;
}

Network network_of_pods(int pods) {
  return {mesh_of("torus: [4] data: 4 pods: " + std::to_string(pods)), counting()};
}

TEST(Schedules, PodsReduceInSquares) {
  const std::vector<std::pair<int, int>> steps = {
      {2, 1},     // 1 x 2
      {3, 2},     // 1 x 3
      {4, 2},     // 2 x 2
      {5, 3},     // 2 x 3, a corner left empty
      {7, 4},     // 2 x 4, a corner left empty
      {8, 4},     // 2 x 4
      {16, 6},    // 4 x 4
      {32, 10},   // 5 x 7, as many as 4 x 8
      {194, 26},  // 13 x 15: a prime beside 2 is no long ring
      {199, 27}   // 14 x 15
  };
  for (const auto& [pods, each_way] : steps) {
    Network network = network_of_pods(pods);
    ScheduledNetwork squares(in_squares(), network);
    EXPECT_NEAR(squares.flow(between(pods, "all_reduce")).latency.count(), 2 * each_way, 1e-9) << pods;
    EXPECT_NEAR(squares.flow(between(pods, "reduce_scatter")).latency.count(), each_way, 1e-9) << pods;
    EXPECT_NEAR(squares.flow(between(pods, "all_gather")).latency.count(), each_way, 1e-9) << pods;
  }
}

// Fewer steps, and no byte more or less than by one ring.
TEST(Schedules, SquaresSendTheBytesOfOneRing) {
  for (const int pods : {2, 4, 16}) {
    Network network = network_of_pods(pods);
    ScheduledNetwork as_issued({}, network), squares(in_squares(), network);
    const CollectiveInfo info = between(pods, "all_reduce", 4e9);
    const Flow ring = as_issued.flow(info), square = squares.flow(info);
    EXPECT_NEAR(square.bytes[kBetweenPods], ring.bytes[kBetweenPods], 1) << pods;
    EXPECT_NEAR(square.busy[kBetweenPods], ring.busy[kBetweenPods], 1e-9) << pods;
    EXPECT_NEAR(square.transfer.count(), 2 * 4.0 * (pods - 1) / pods, 1e-9) << pods;
    EXPECT_LE(square.latency.count(), ring.latency.count()) << pods;
  }
}

TEST(Schedules, OtherAxesAndOnePodAreNoSquares) {
  Network network = network_of_pods(2);
  ScheduledNetwork squares(in_squares(), network);
  CollectiveInfo within = between(4, "all_gather", 1e6);
  within.axis = "data";
  within.method = "bidirectional_ring";
  EXPECT_EQ(&squares.flow(within), &network.flow(within));
}

CollectiveInfo partial_sums(double bytes, double on_the_wire) {
  CollectiveInfo info;
  info.operation = "reduce_scatter";
  info.axis = "model";
  info.ranks = 4;
  info.method = "bidirectional_ring";
  info.bytes = static_cast<int64_t>(bytes);
  info.wire_bytes = static_cast<int64_t>(on_the_wire);
  return info;
}

TEST(Schedules, PartialSumsTravelInBf16) {
  Network network(mesh_of("torus: [4, 4] data: 4 model: 4"), chip_of());
  Schedule schedule;
  schedule.sums_in_bf16 = true;
  ScheduledNetwork rounded(schedule, network), as_configured({}, network);
  const auto bytes = [](ScheduledNetwork& on, const CollectiveInfo& info) {
    const Flow& flow = on.flow(info);
    double sum = 0;
    for (const double link : flow.bytes) sum += link;
    return sum;
  };
  const CollectiveInfo sums = partial_sums(4e6, 4e6);
  EXPECT_NEAR(bytes(as_configured, sums), 4e6 * 3 / 4, 1);
  EXPECT_NEAR(bytes(rounded, sums), 2e6 * 3 / 4, 1);
  const CollectiveInfo in_bf16 = partial_sums(4e6, 2e6);  // already
  EXPECT_NEAR(bytes(rounded, in_bf16), 2e6 * 3 / 4, 1);
  CollectiveInfo gathered = sums, gradients = sums, made_in_bf16 = sums;
  gathered.operation = "all_gather";
  gradients.axis = "data";
  made_in_bf16.type = DType::bf16;  // as rows of the embedding are: they travel as they are
  for (const CollectiveInfo& other : {gathered, gradients, made_in_bf16})
    EXPECT_NEAR(bytes(rounded, other), 4e6 * 3 / 4, 1) << other.operation << " on " << other.axis;
}

}  // namespace
}  // namespace toroid::sim
