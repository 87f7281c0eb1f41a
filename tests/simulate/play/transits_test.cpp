// Who shares links with whom, and how fast each goes on meanwhile. Times are seconds.
#include "simulate/play/transits.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

namespace toroid::sim {
namespace {

// `busy`: seconds of each link that it uses; it takes as long as the busiest.
Flow flow_over(const std::map<int, double>& busy) {
  Flow out;
  for (const auto& [link, seconds] : busy) {
    out.busy[static_cast<size_t>(link)] = seconds;
    out.transfer = std::max(out.transfer, Seconds(seconds));
  }
  return out;
}

// Collectives on chips, each from a time on, and when each is over.
class UnderWay {
 public:
  explicit UnderWay(size_t chips) : transits_(chips) {}

  Transits::Number begin(const Flow& flow, std::vector<uint32_t> chips, double at = 0, double latency = 0) {
    const Transits::Number number = transits_.make();
    Transit& transit = transits_.at(number);
    transit.flow = &flow;
    transit.chips = std::move(chips);
    transit.begun = at;
    transit.latency = latency;
    transits_.begin(number);
    return number;
  }
  std::map<Transits::Number, double> ends() {
    std::map<Transits::Number, double> out;
    while (transits_.next() < std::numeric_limits<double>::infinity()) {
      const double now = transits_.next();
      const std::optional<Transits::Number> over = transits_.advance();
      if (!over) continue;
      EXPECT_TRUE(out.emplace(*over, now).second) << "over twice: " << *over;
      if (releases) transits_.release(*over);
    }
    return out;
  }
  bool releases = false;
  Transits& transits() { return transits_; }

 private:
  Transits transits_;
};

constexpr double kClose = 1e-9;

TEST(Transits, OneAloneTakesItsLatencyAndItsBytes) {
  const Flow flow = flow_over({{0, 2}});
  UnderWay under_way(1);
  const auto one = under_way.begin(flow, {0}, 3, 0.5);
  EXPECT_NEAR(under_way.ends().at(one), 3 + 0.5 + 2, kClose);
}

TEST(Transits, TwoOnOneLinkTakeTheTimeOfBoth) {
  const Flow shorter = flow_over({{0, 1}}), longer = flow_over({{0, 3}});
  UnderWay under_way(1);
  const auto a = under_way.begin(shorter, {0}), b = under_way.begin(longer, {0});
  const auto ends = under_way.ends();
  EXPECT_NEAR(ends.at(a), 2, kClose) << "at half its speed";
  EXPECT_NEAR(ends.at(b), 4, kClose) << "and the rest alone";
}

TEST(Transits, LatenciesPassBesideOthersBytes) {
  const Flow first = flow_over({{0, 2}}), second = flow_over({{0, 1}});
  UnderWay under_way(1);
  const auto a = under_way.begin(first, {0}), b = under_way.begin(second, {0}, 0, 1.5);
  const auto ends = under_way.ends();
  EXPECT_NEAR(ends.at(a), 2.5, kClose) << "1.5 s alone, then half a second's worth in halves";
  EXPECT_NEAR(ends.at(b), 3, kClose);
}

TEST(Transits, ThoseOnOtherLinksOrOtherChipsDoNotMeet) {
  const Flow here = flow_over({{0, 1}}), there = flow_over({{1, 1}});
  UnderWay under_way(2);
  const auto a = under_way.begin(here, {0}), b = under_way.begin(there, {0}), c = under_way.begin(here, {1});
  const auto ends = under_way.ends();
  for (const auto number : {a, b, c}) EXPECT_NEAR(ends.at(number), 1, kClose);
}

// Two that leave a link half free each have it to themselves.
TEST(Transits, ALinkIsSharedFromItsBandwidthOn) {
  const Flow half = flow_over({{0, 0.5}, {1, 1}}), other = flow_over({{0, 0.5}, {2, 1}});
  const Flow most = flow_over({{0, 0.8}, {2, 1}});
  UnderWay fits(1);
  const auto a = fits.begin(half, {0}), b = fits.begin(other, {0});
  const auto free = fits.ends();
  EXPECT_NEAR(free.at(a), 1, kClose);
  EXPECT_NEAR(free.at(b), 1, kClose);
  UnderWay crowded(1);
  const auto c = crowded.begin(half, {0}), d = crowded.begin(most, {0});
  const auto shared = crowded.ends();
  EXPECT_NEAR(shared.at(c), 1.3, kClose) << "1.3 s of the link asked for in one";
  EXPECT_NEAR(shared.at(d), 1.3, kClose);
}

// a and b meet on link 0, b and c on link 1: c does not meet a, but goes on as b leaves it room.
TEST(Transits, AChainOfMeetingsOnDifferentLinks) {
  const Flow left = flow_over({{0, 1}}), both = flow_over({{0, 1}, {1, 1}}), right = flow_over({{1, 1}});
  UnderWay under_way(1);
  const auto a = under_way.begin(left, {0}), b = under_way.begin(both, {0}), c = under_way.begin(right, {0});
  const auto ends = under_way.ends();
  for (const auto number : {a, b, c}) EXPECT_NEAR(ends.at(number), 2, kClose);
}

// Max-min: three on link 0 have a third each, and what the one of them that goes on over link 1 leaves there
// is the fourth's, not a half.
TEST(Transits, WhatOthersCannotUseIsLeftToTheRest) {
  const Flow left = flow_over({{0, 1}}), both = flow_over({{0, 1}, {1, 1}}), right = flow_over({{1, 1}});
  UnderWay under_way(1);
  const auto a = under_way.begin(left, {0}), b = under_way.begin(left, {0}), c = under_way.begin(both, {0}),
             d = under_way.begin(right, {0});
  const auto ends = under_way.ends();
  EXPECT_NEAR(ends.at(d), 1.5, kClose) << "two thirds of link 1";
  for (const auto number : {a, b, c})
    EXPECT_NEAR(ends.at(number), 3, kClose) << "a third of link 0 to the end";
}

// Groups meet at a chip that both have: chip 1 is in both, so that all chips of both are held back.
TEST(Transits, GroupsMeetAtTheChipsTheyShare) {
  const Flow flow = flow_over({{0, 1}});
  UnderWay under_way(4);
  const auto a = under_way.begin(flow, {0, 1}), b = under_way.begin(flow, {1, 2}),
             c = under_way.begin(flow, {3});
  const auto ends = under_way.ends();
  EXPECT_NEAR(ends.at(a), 2, kClose);
  EXPECT_NEAR(ends.at(b), 2, kClose);
  EXPECT_NEAR(ends.at(c), 1, kClose);
}

// a-b-c along chips: b meets a at one chip and c at another, each a link full of two.
TEST(Transits, AChainOfMeetingsAtDifferentChips) {
  const Flow flow = flow_over({{0, 1}}), longer = flow_over({{0, 2}});
  UnderWay under_way(2);
  const auto a = under_way.begin(flow, {0}), b = under_way.begin(flow, {0, 1}),
             c = under_way.begin(longer, {1});
  const auto ends = under_way.ends();
  EXPECT_NEAR(ends.at(a), 2, kClose);
  EXPECT_NEAR(ends.at(b), 2, kClose);
  EXPECT_NEAR(ends.at(c), 3, kClose) << "a second's worth in two, the other alone";
}

TEST(Transits, OneThatBeginsLaterSlowsDownWhatIsLeft) {
  const Flow longer = flow_over({{0, 2}}), later = flow_over({{0, 0.5}});
  UnderWay under_way(1);
  const auto a = under_way.begin(longer, {0}), b = under_way.begin(later, {0}, 1);
  const auto ends = under_way.ends();
  EXPECT_NEAR(ends.at(b), 2, kClose);
  EXPECT_NEAR(ends.at(a), 2.5, kClose);
}

TEST(Transits, NothingToSendIsOverWithItsLatency) {
  const Flow nothing, something = flow_over({{0, 1}});
  UnderWay under_way(1);
  const auto a = under_way.begin(nothing, {0}, 1, 0.25), b = under_way.begin(something, {0}, 1);
  const auto ends = under_way.ends();
  EXPECT_NEAR(ends.at(a), 1.25, kClose);
  EXPECT_NEAR(ends.at(b), 2, kClose) << "and slows nobody down";
}

// A number is used again, and nothing of who had it before is left.
TEST(Transits, ReleasedNumbersStartAfresh) {
  const Flow flow = flow_over({{0, 1}});
  UnderWay under_way(1);
  under_way.releases = true;
  const auto first = under_way.begin(flow, {0}), second = under_way.begin(flow, {0});
  EXPECT_NEAR(under_way.ends().at(first), 2, kClose);
  for (const double at : {2.0, 10.0}) {
    const auto again = under_way.begin(flow, {0}, at);
    EXPECT_TRUE(again == first || again == second);
    EXPECT_NEAR(under_way.ends().at(again), at + 1, kClose);
  }
}

}  // namespace
}  // namespace toroid::sim
