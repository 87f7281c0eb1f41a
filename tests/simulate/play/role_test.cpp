// What a player makes of the records of a chip: lanes, what is waited for, what the chip stands still for.
#include "simulate/play/role.h"

#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"
#include "tests/simulate/play/script.h"

namespace toroid::sim {
namespace {

using Beside = Schedule::Beside;

// A role keeps what it was made of.
class Made {
 public:
  Made(Script script, const Schedule& schedule, const std::string& host = kHost)
      : script_(std::move(script)),
        chip_(chip_of(kTorus, host)),
        network_(mesh_of("torus: [4, 4] data: 4 model: 4 pods: 2"), chip_),
        scheduled_(schedule, network_),
        role(role_of(chip_, scheduled_, {script_.records, {}})) {}
  Made(const Made&) = delete;  // the role points into it

  const std::vector<Entry>& lane(Queue queue) const { return role.lanes[static_cast<size_t>(queue)]; }
  // "work wait stall transfer"
  std::string kinds(Queue queue) const {
    std::string out;
    for (const Entry& entry : lane(queue)) {
      switch (entry.kind) {
        case Entry::Kind::wait:
          out += "wait ";
          break;
        case Entry::Kind::work:
          out += "work ";
          break;
        case Entry::Kind::stall:
          out += "stall ";
          break;
        case Entry::Kind::transfer:
          out += "transfer ";
          break;
      }
    }
    return out;
  }

 private:
  Script script_;
  Chip chip_;
  Network network_;
  ScheduledNetwork scheduled_;

 public:
  Role role;
};

Schedule within(Beside beside) {
  Schedule out;
  out.within_pod = beside;
  return out;
}

// An operator, a gather behind it, and an operator behind that.
Script gathered() {
  Script script;
  const uint64_t begun = script.op(1);
  script.wait(Queue::gather, Queue::compute, begun);
  const uint64_t there = script.gather(1);
  script.wait(Queue::compute, Queue::gather, there);
  script.op(2);
  return script;
}

TEST(Role, QueuesBesideTheOperatorsAreLanesOfTheirOwn) {
  const Made made(gathered(), within(Beside::operators));
  EXPECT_EQ(made.kinds(Queue::compute), "work wait work ");
  EXPECT_EQ(made.kinds(Queue::gather), "wait transfer ");
  EXPECT_EQ(made.role.ends, 2);
  const Entry& wait = made.lane(Queue::compute)[1];
  EXPECT_EQ(wait.queue, Queue::gather);
  EXPECT_EQ(wait.done, 1u);
  EXPECT_EQ(wait.end, made.lane(Queue::gather)[1].end);
  EXPECT_NE(wait.end, Entry::kNobody);
  EXPECT_EQ(made.lane(Queue::compute)[2].end, Entry::kNobody) << "the last operator is waited for by nobody";
}

TEST(Role, OnOneLaneNothingIsWaitedFor) {
  const Made made(gathered(), within(Beside::nothing));
  EXPECT_EQ(made.kinds(Queue::compute), "work transfer work ");
  EXPECT_EQ(made.kinds(Queue::gather), "");
  EXPECT_EQ(made.role.ends, 0);
}

// The host's queue is a lane of its own whatever goes beside nothing.
TEST(Role, OtherLanesStillWaitForWhatIsOnTheOperators) {
  Script script = gathered();
  script.wait(Queue::host, Queue::gather, 1);
  script.op(1, Queue::host);
  const Made made(script, within(Beside::nothing));
  EXPECT_EQ(made.kinds(Queue::host), "wait work ");
  EXPECT_EQ(made.role.ends, 1);
  EXPECT_EQ(made.lane(Queue::host)[0].end, made.lane(Queue::compute)[1].end);
}

TEST(Role, AWaitForWhatWasBeforeTheStepIsDropped) {
  Script script;
  script.skip(Queue::gather, 7);
  script.wait(Queue::compute, Queue::gather, 7);
  script.op(1);
  const Made made(script, {});
  EXPECT_EQ(made.kinds(Queue::compute), "work ");
}

// A ticket between two entries, of what takes no time, is that of the entry before.
TEST(Role, AWaitCountsEntriesAndNotTickets) {
  Script script;
  script.gather(1);
  script.skip(Queue::gather, 3);
  script.gather(1);
  script.wait(Queue::compute, Queue::gather, 4);
  script.op(1);
  const Made made(script, {});
  EXPECT_EQ(made.lane(Queue::compute)[0].done, 1u);
  EXPECT_EQ(made.lane(Queue::compute)[0].end, made.lane(Queue::gather)[0].end);
}

const std::string kSlowHost =
    "host { chips: 8 cards: 2 card_bytes_per_s: 1e9 pcie_bytes_per_s: 4e9 message_latency_s: 0.5 "
    "ring_step_s: 0.25 }";

Script reduced_between_pods() {
  Script script;
  const uint64_t made = script.op(1);
  script.wait(Queue::pod, Queue::compute, made);
  script.gather(1, "pod", Queue::pod);
  script.change([](CollectiveInfo& info) {
    info.operation = "all_reduce";
    info.ranks = 2;
  });
  script.op(2);
  return script;
}

TEST(Role, TheChipStandsStillForTheLatencyOfATransferBetweenPods) {
  Schedule schedule;
  schedule.between_pods = Beside::operators_but_latencies;
  schedule.in_squares = true;
  const Made made(reduced_between_pods(), schedule, kSlowHost);
  EXPECT_EQ(made.kinds(Queue::compute), "work stall work ");
  EXPECT_EQ(made.kinds(Queue::pod), "wait transfer ");
  const Entry& stall = made.lane(Queue::compute)[1];
  EXPECT_NEAR(stall.seconds, 0.5 + 2 * 0.25, 1e-9) << "starting it, and a step of its ring each way";
  EXPECT_EQ(stall.queue, Queue::pod) << "whose wait it is";
  EXPECT_EQ(stall.end, Entry::kNobody) << "the transfer's end is waited for, not the stall's";
  EXPECT_EQ(stall.flow, made.lane(Queue::pod)[1].flow);
}

TEST(Role, BesideTheOperatorsTheChipDoesNotStandStill) {
  const Made made(reduced_between_pods(), {}, kSlowHost);
  EXPECT_EQ(made.kinds(Queue::compute), "work work ");
  Schedule one_by_one;
  one_by_one.between_pods = Beside::nothing;
  const Made serial(reduced_between_pods(), one_by_one, kSlowHost);
  EXPECT_EQ(serial.kinds(Queue::compute), "work transfer work ");
}

// Equal operators are priced once; others are not taken for them.
TEST(Role, OperatorsThatDifferHaveTheirOwnPrices) {
  Script script;
  script.op(1);
  script.op(1);
  script.op(2);
  script.records.back().cost.products.push_back({1000, 1000, 1'000'000, 1, DType::bf16});
  script.op(2);
  const Made made(script, {});
  const std::vector<Entry>& lane = made.lane(Queue::compute);
  EXPECT_NEAR(lane[0].seconds, 1, 1e-9);
  EXPECT_NEAR(lane[1].seconds, 1, 1e-9);
  EXPECT_NEAR(lane[2].seconds, 2, 1e-9);
  EXPECT_NEAR(lane[3].seconds, 2, 1e-9);
  EXPECT_EQ(lane[3].bound, OperatorTime::Bound::memory);
  script.records[2].cost.products[0].count = 2;  // 4 s of products
  const Made longer(script, {});
  EXPECT_NEAR(longer.lane(Queue::compute)[2].seconds, 4, 0.1);
  EXPECT_EQ(longer.lane(Queue::compute)[2].bound, OperatorTime::Bound::products);
}

TEST(Role, ACopyReadsAndWritesItsBytes) {
  Script script;
  script.op(0);
  script.records.back().kind = Record::Kind::copy;
  script.records.back().bytes = 1'000'000'000;
  const Made made(script, {});
  EXPECT_NEAR(made.lane(Queue::compute)[0].seconds, 2, 1e-9);
}

TEST(Role, ACollectiveOnNoAxisIsAnError) {
  Script script;
  script.gather(1, "all");
  EXPECT_THROW(Made(script, {}), InternalError);
}

}  // namespace
}  // namespace toroid::sim
