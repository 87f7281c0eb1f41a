#include "tests/train/report/traced.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/base/io/file.h"
#include "tests/core/base/io/temporary_directory.h"
#include "tests/train/certify/local_layout.h"
#include "train/certify/layout.h"
#include "train/report/trace.h"

namespace toroid::train {
namespace {

using Json = nlohmann::json;

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

std::vector<std::string> details(const Row& row, const std::string& category) {
  std::vector<std::string> out;
  for (const Slice& slice : row) {
    if (slice.category == category) out.push_back(slice.arguments.at("of"));
  }
  return out;
}

std::vector<std::string> details(const std::vector<Record>& records, Record::Kind kind, Queue queue) {
  std::vector<std::string> out;
  for (const Record& record : records) {
    if (record.kind == kind && record.queue == queue) out.push_back(record.text);
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

}  // namespace

Traced trace(const std::string& layout, const LocalJob::Options& options, const TracedOn& on,
             const std::vector<std::string>& sets) {
  const TemporaryDirectory directory;
  const Path file = directory / "trace.json";
  config::RunConfig run = small_config("heads: 4 kv_heads: 2", sets);
  run.mutable_train()->set_deterministic(false);
  run.mutable_train()->mutable_trace()->set_steps(2);
  parse_layouts(layout)[0].apply(run);
  config::validate(run);
  const int ranks = parse_layouts(layout)[0].ranks();
  LocalJob job(ranks, options);
  Traced out;
  out.records.resize(static_cast<size_t>(ranks));
  const std::string failures = testing::run_rank_threads(ranks, [&](int rank) {
    std::unique_ptr<World> world = job.world(rank);
    const std::unique_ptr<Device> device = on.make_device ? on.make_device(*world) : local_device(on.plugins);
    auto recording = std::make_unique<RecordingDevice>(*device);
    RecordingDevice& recorder = *recording;
    recorder.keep_records(false);
    Engine engine = make_engine(run, std::move(world), std::move(recording), on.plugins);
    const mesh::Mesh mesh(run.mesh());
    Tracer tracer(file, run.train().trace(), *device, engine, mesh);
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

void expect_whole(const Traced& traced) {
  const int ranks = static_cast<int>(traced.records.size());
  EXPECT_EQ(traced.processes.size(), traced.records.size());
  EXPECT_EQ(traced.rows.size(), traced.records.size() * kRows.size());
  for (int rank = 0; rank < ranks; ++rank) {
    SCOPED_TRACE("rank " + std::to_string(rank));
    const auto& records = traced.records[static_cast<size_t>(rank)];
    EXPECT_EQ(traced.processes.at(rank).rfind("rank " + std::to_string(rank) + " (", 0), 0u);
    EXPECT_FALSE(traced.rows.at({rank, "compute"}).empty());
    for (size_t queue = 0; queue < kRows.size(); ++queue) {
      const Row& row = traced.rows.at({rank, kRows[queue]});
      const auto as = static_cast<Queue>(queue);
      EXPECT_EQ(details(row, "operator"), details(records, Record::Kind::launch, as)) << kRows[queue];
      EXPECT_EQ(details(row, "copy"), details(records, Record::Kind::copy, as)) << kRows[queue];
      std::vector<std::string> issued, seen;
      for (const Record& record : records) {
        if (record.kind == Record::Kind::transfer && record.queue == as) {
          issued.push_back(text_of(*record.info));
        }
      }
      for (const Slice& slice : row) {
        if (slice.category == "collective") seen.push_back(text_of(slice));
      }
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

}  // namespace toroid::train
