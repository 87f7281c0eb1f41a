// Traces of steps over ranks that are threads: valid JSON, every operator and collective in its row, rows
// without overlaps, times that agree between the ranks.
#include "train/report/trace.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "tests/train/certify/local_layout.h"
#include "tests/train/report/traced.h"

namespace toroid::train {
namespace {

TEST(Trace, HasARowForEachRankAndStream) {
  for (const char* layout : {"1x2", "2x2"}) {
    SCOPED_TRACE(layout);
    const Traced traced = trace(layout);
    expect_whole(traced);
    expect_used(traced, {"compute", "gather", "reduce"});
  }
}

TEST(Trace, HasTheModelAxisAndThePods) {
  const Traced model = trace("model 2 of 2x2");
  expect_whole(model);
  expect_used(model, {"compute", "gather", "reduce", "model"});
  const Traced pods = trace("pods 2 of 1x2");
  expect_whole(pods);
  expect_used(pods, {"compute", "gather", "reduce", "pod"});
}

TEST(Trace, OfOneRankIsItsOwn) {
  const Traced traced = trace("1x1");
  expect_whole(traced);
  expect_used(traced, {"compute"});
}

TEST(Trace, JoinsRanksOfSeveralHosts) {
  LocalJob::Options options;
  options.hosts = 2;
  expect_whole(trace("2x2", options));
}

// No rank is through with a collective before all have begun it.
TEST(Trace, TimesOfTheRanksAgree) {
  const Traced traced = trace("2x2");
  for (const char* name : {"gather", "reduce"}) {
    const size_t count = traced.rows.at({0, name}).size();
    EXPECT_GT(count, 0u);
    for (size_t i = 0; i < count; ++i) {
      int64_t begun = 0, ended = std::numeric_limits<int64_t>::max();
      for (int rank = 0; rank < 4; ++rank) {
        const Slice& slice = traced.rows.at({rank, name}).at(i);
        EXPECT_EQ(slice.name, traced.rows.at({0, name})[i].name);
        begun = std::max(begun, slice.begin);
        ended = std::min(ended, slice.end);
      }
      EXPECT_LE(begun, ended) << name << " " << i;
    }
  }
}

TEST(Trace, NamesUnitsAndPhases) {
  const Traced traced = trace("1x2");
  std::set<std::string> units, phases;
  for (const Slice& slice : traced.rows.at({1, "compute"})) {
    if (slice.category != "operator") continue;
    phases.insert(slice.arguments.at("phase"));
    units.insert(slice.arguments.value("unit", ""));
  }
  EXPECT_EQ(phases, (std::set<std::string>{"forward", "backward", "optimizer"}));
  for (const char* unit : {"", "embedding", "layer.0", "layer.1"}) EXPECT_TRUE(units.contains(unit)) << unit;
}

TEST(Trace, TakesTheClockOfAnotherHostFromTheQuickestAnswer) {
  // 1000 ahead; the second answer took 20 each way, the others were held up on one way.
  const std::vector<ClockSample> samples{{0, 1050, 500}, {600, 1620, 640}, {700, 1900, 910}};
  EXPECT_EQ(clock_offset(samples), 1000);
}

TEST(Trace, NeedsADirectoryForItsFile) {
  const config::RunConfig run = small_config("heads: 4 kv_heads: 2");
  const Plugins plugins;
  auto device = local_device(plugins);
  CpuDevice& cpu = *device;
  Engine engine = make_engine(run, make_single_world(), std::move(device), plugins);
  const mesh::Mesh mesh(run.mesh());
  EXPECT_THROW(Tracer("/nowhere/at/all/trace.json", run.train().trace(), cpu, engine, mesh), UserError);
}

}  // namespace
}  // namespace toroid::train
