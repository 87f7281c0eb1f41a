// Traces of steps over ranks that are threads: valid JSON, every operator and collective in its row, rows
// without overlaps, times that agree between the ranks.
#include "train/report/trace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "core/device/sim/recording_device.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/certify/local_layout.h"
#include "train/certify/layout.h"

namespace toroid::train {
namespace {

using Json = nlohmann::json;

struct Slice {
  int64_t begin = 0, end = 0;  // nanoseconds
  std::string name, category;
  Json arguments;
};
using Row = std::vector<Slice>;  // in the order of time

struct Traced {
  std::vector<std::vector<Record>> records;  // of the traced steps, by rank
  std::map<int, std::string> processes;
  std::map<std::pair<int, std::string>, Row> rows;  // by rank and name; every named row is there
};

void read_trace(const Path& file, Traced& out) {
  const Json trace = Json::parse(read_file(file, 1 << 28));
  std::map<std::pair<int, int>, std::string> names;
  for (const Json& event : trace.at("traceEvents")) {
    const int rank = event.at("pid"), row = event.at("tid");
    if (event.at("ph") == "M") {
      if (event.at("name") == "process_name") out.processes[rank] = event.at("args").at("name");
      if (event.at("name") != "thread_name") continue;
      names[{rank, row}] = event.at("args").at("name");
      out.rows[{rank, names[{rank, row}]}];
      continue;
    }
    ASSERT_EQ(event.at("ph"), "X");
    Slice slice;
    slice.begin = std::llround(1e3 * event.at("ts").get<double>());
    slice.end = slice.begin + std::llround(1e3 * event.at("dur").get<double>());
    slice.name = event.at("name");
    slice.category = event.at("cat");
    slice.arguments = event.at("args");
    out.rows.at({rank, names.at({rank, row})}).push_back(slice);
  }
  for (auto& [key, row] : out.rows) {
    std::stable_sort(row.begin(), row.end(),
                     [](const Slice& a, const Slice& b) { return a.begin < b.begin; });
  }
}

// Five steps, of which the third and the fourth are recorded, once by the tracer and once by a recorder.
Traced trace(const std::string& layout, const LocalJob::Options& options = {}) {
  const TemporaryDirectory directory;
  const Path file = directory / "trace.json";
  config::RunConfig run = small_config("heads: 4 kv_heads: 2");
  run.mutable_train()->set_deterministic(false);
  run.mutable_train()->mutable_trace()->set_steps(2);
  parse_layouts(layout)[0].apply(run);
  config::validate(run);
  const int ranks = parse_layouts(layout)[0].ranks();
  LocalJob job(ranks, options);
  Traced out;
  out.records.resize(static_cast<size_t>(ranks));
  const std::string failures = testing::run_rank_threads(ranks, [&](int rank) {
    const Plugins plugins;
    const auto cpu = local_device(plugins);
    auto recording = std::make_unique<RecordingDevice>(*cpu);
    RecordingDevice& recorder = *recording;
    recorder.keep_records(false);
    Engine engine = make_engine(run, job.world(rank), std::move(recording), plugins);
    const mesh::Mesh mesh(run.mesh());
    Tracer tracer(file, run.train().trace(), *cpu, engine, mesh);
    engine.program->initialise(1);
    for (int64_t step = 0; step < 5; ++step) {
      engine.program->upload(host_batch(synthetic_batch(run, step)), 1e-3);
      tracer.begin_step(step + 1);
      recorder.keep_records(step == 2 || step == 3);
      engine.program->step();
      recorder.keep_records(false);
      tracer.end_step();
    }
    (void)engine.program->result(0);
    tracer.close();
    out.records[static_cast<size_t>(rank)] = recorder.records();
  });
  EXPECT_EQ(failures, "");
  if (failures.empty()) read_trace(file, out);
  return out;
}

std::vector<std::string> details(const Row& row, const std::string& category) {
  std::vector<std::string> out;
  for (const Slice& slice : row) {
    if (slice.category == category) out.push_back(slice.arguments.at("of"));
  }
  return out;
}

std::vector<std::string> details(const std::vector<Record>& records, Record::Kind kind) {
  std::vector<std::string> out;
  for (const Record& record : records) {
    if (record.kind == kind) out.push_back(record.text);
  }
  return out;
}

std::string text_of(const CollectiveInfo& info) {
  return info.operation + " " + info.tensor + " " + info.axis + " " + std::to_string(info.bytes);
}

std::string text_of(const Slice& slice) {
  return slice.name + " " + slice.arguments.at("axis").get<std::string>() + " " +
         std::to_string(slice.arguments.at("bytes").get<int64_t>());
}

constexpr std::array<const char*, 5> kRows{"compute", "gather", "reduce", "model", "pod"};

void expect_whole(const Traced& traced) {
  const int ranks = static_cast<int>(traced.records.size());
  EXPECT_EQ(traced.processes.size(), traced.records.size());
  EXPECT_EQ(traced.rows.size(), traced.records.size() * kRows.size());
  for (int rank = 0; rank < ranks; ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    const auto& records = traced.records[static_cast<size_t>(rank)];
    EXPECT_EQ(traced.processes.at(rank).rfind("rank " + std::to_string(rank) + " (", 0), 0u);
    const Row& compute = traced.rows.at({rank, "compute"});
    EXPECT_FALSE(compute.empty());
    EXPECT_EQ(details(compute, "operator"), details(records, Record::Kind::launch));
    EXPECT_EQ(details(compute, "copy"), details(records, Record::Kind::copy));
    for (size_t queue = 1; queue < kRows.size(); ++queue) {
      std::vector<std::string> issued, seen;
      for (const Record& record : records) {
        if (record.kind == Record::Kind::transfer && record.queue == static_cast<Queue>(queue)) {
          issued.push_back(text_of(*record.info));
        }
      }
      for (const Slice& slice : traced.rows.at({rank, kRows[queue]})) seen.push_back(text_of(slice));
      EXPECT_EQ(seen, issued) << kRows[queue];
    }
    for (const char* name : kRows) {
      int64_t free = 0;
      for (const Slice& slice : traced.rows.at({rank, name})) {
        EXPECT_GE(slice.begin, free) << name << ": " << slice.name;
        EXPECT_GE(slice.end, slice.begin);
        EXPECT_TRUE(slice.arguments.at("step") == 3 || slice.arguments.at("step") == 4);
        free = slice.end;
      }
    }
  }
}

void expect_used(const Traced& traced, const std::set<std::string>& expected) {
  for (const auto& [key, row] : traced.rows) {
    EXPECT_EQ(!row.empty(), expected.contains(key.second)) << key.first << " " << key.second;
  }
}

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
