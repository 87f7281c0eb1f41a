// The chip `host` from the figures of a machine, and what it records: what ranks of a real run issue, in
// order and size, with the memory that they take.
#include "simulate/fit/machine_chip.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <sstream>

#include "simulate/play/simulate.h"
#include "tests/train/certify/local_layout.h"
#include "tests/train/config/recipe_text.h"

namespace toroid::train {
namespace {

constexpr const char* kFigures = R"(
  cpu: "a processor" cores: 2 threads: 2 isa: "AVX2" memory_bytes: 8000000000
  bf16_flops_per_s: 4e11 fp32_flops_per_s: 2e11 bandwidth_bytes_per_s: 3e10
  op { kind: "matmul" type: "bf16" threads: 2 s_start: 1e-6 s_per_flop: 2.5e-12 }
  op { kind: "matmul" type: "f32" threads: 2 s_per_flop: 5e-12 }
  op { kind: "matmul" type: "bf16" threads: 1 s_per_flop: 4.5e-12 }
  op { kind: "adamw" type: "bf16" threads: 2 rate { bytes: 1e5 s_per_byte: 1e-11 }
       rate { bytes: 1e8 s_per_byte: 3e-11 } }
)";

config::MachineFigures figures(const std::string& more = "") {
  config::MachineFigures out;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(kFigures, &out));
  EXPECT_TRUE(google::protobuf::TextFormat::MergeFromString(more, &out)) << more;
  return out;
}

// 1000 x 1000 x 1000.
double matmul_s(const sim::Chip& chip) {
  Cost cost;
  cost.products.push_back({1000, 1000, 1000, 1, DType::bf16});
  return sim::time_of(chip, "matmul", cost).total.count();
}

TEST(HostChip, IsTheShareOfARank) {
  const sim::Chip whole = make_machine_chip(figures(), {}, 1, 2, DType::bf16);
  EXPECT_EQ(whole.name, "host");
  EXPECT_DOUBLE_EQ(whole.peak_flops_per_s.at(DType::bf16), 4e11);
  EXPECT_EQ(whole.memory_bytes, 8'000'000'000);
  EXPECT_NEAR(matmul_s(whole), 1e-6 + 2e9 * 2.5e-12, 1e-12);
  const sim::Chip quarter = make_machine_chip(figures(), {}, 4, 1, DType::bf16);
  EXPECT_DOUBLE_EQ(quarter.peak_flops_per_s.at(DType::bf16), 1e11);
  EXPECT_EQ(quarter.memory_bytes, 2'000'000'000);
  EXPECT_NEAR(matmul_s(quarter), 4 * matmul_s(whole), 1e-12);
  EXPECT_NEAR(matmul_s(make_machine_chip(figures(), {}, 1, 1, DType::bf16)), 2e9 * 4.5e-12, 1e-12);
  EXPECT_NEAR(matmul_s(make_machine_chip(figures(), {}, 1, 2, DType::f32)), 2e9 * 5e-12, 1e-12);
  Cost update;
  update.bytes_read = 100'000'000;
  EXPECT_NEAR(sim::time_of(whole, "adamw", update).total.count(), 3e-3, 1e-9);
}

TEST(HostChip, RefusesFiguresThatAreNone) {
  const auto refused = [](const config::MachineFigures& from, DType type = DType::bf16) {
    return test::refusal([&] { (void)make_machine_chip(from, {}, 1, 2, type); });
  };
  config::MachineFigures none;
  EXPECT_NE(refused(none).find("threads"), std::string::npos) << refused(none);
  config::MachineFigures no_rate = figures();
  no_rate.set_bandwidth_bytes_per_s(0);
  EXPECT_NE(refused(no_rate).find("bandwidth_bytes_per_s"), std::string::npos) << refused(no_rate);
  config::MachineFigures no_operators = figures();
  no_operators.clear_op();
  EXPECT_NE(refused(no_operators).find("run `toroid doctor`"), std::string::npos) << refused(no_operators);
  for (const auto& [more, said] : std::vector<std::pair<std::string, std::string>>{
           {"op { kind: \"a\" type: \"bf16\" threads: 2 s_per_flop: -1 }", "op[4].s_per_flop is -1"},
           {"op { kind: \"a\" type: \"bf16\" threads: 2 s_start: nan }", "op[4].s_start"},
           {"op { kind: \"a\" type: \"bf16\" threads: 2 rate { bytes: 0 s_per_byte: 1 } }",
            "op[4].rate[0].bytes"},
           {"op { kind: \"a\" type: \"bf16\" threads: 2 rate { bytes: 9 } rate { bytes: 9 } }",
            "does not rise"}}) {
    EXPECT_NE(refused(figures(more)).find(said), std::string::npos) << more << ": " << refused(figures(more));
  }
}

TEST(HostChip, CollectivesAreWhatTheTableSays) {
  std::vector<sim::CollectiveTime> times;
  for (const char* operation : {"all_gather", "reduce_scatter", "all_reduce"}) {
    for (const char* way : {"read", "relay", "direct", "ring"}) times.push_back({operation, way, 4, 1, 1e-9});
  }
  config::RunConfig run = small_config("heads: 4 kv_heads: 2");
  run.mutable_train()->set_deterministic(false);
  run.mutable_batch()->set_global_sequences(8);
  const Layout layout = parse_layouts("2x2 zero 3")[0];
  layout.apply(run);
  const auto step = [&](double factor) {
    auto scaled = times;
    for (sim::CollectiveTime& time : scaled) time.seconds *= factor;
    return simulate(run, make_machine_chip(figures(), scaled, 4, 1, DType::bf16), Plugins())
        .played.step.count();
  };
  EXPECT_GT(step(10), 5 * step(1));
}

void expect_same(const sim::StepRecords& records, const std::vector<Record>& real, const std::string& what) {
  std::vector<Record> simulated;
  records.each([&](const Record& record) { simulated.push_back(record); });
  ASSERT_EQ(simulated.size(), real.size()) << what;
  for (size_t i = 0; i < simulated.size(); ++i) {
    const Record &a = simulated[i], &b = real[i];
    const auto tell = [&](const Record& r) {
      const CollectiveInfo info = r.info == nullptr ? CollectiveInfo{} : *r.info;
      return std::to_string(static_cast<int>(r.kind)) + " " + std::string(r.op) + " " + r.text + " bytes " +
             std::to_string(r.bytes) + " queue " + std::to_string(static_cast<int>(r.queue)) + " FLOPs " +
             std::to_string(r.cost.flops()) + " read " + std::to_string(r.cost.bytes_read) + " written " +
             std::to_string(r.cost.bytes_written) + " " + info.operation + " " + info.axis + " " +
             info.tensor + " " + info.method + " " + std::to_string(info.wire_bytes) + " of " +
             std::to_string(info.ranks);
    };
    ASSERT_EQ(tell(a), tell(b)) << what << ", record " << i;
  }
}

TEST(HostChip, RecordsWhatARealRunIssuesWithTheMemoryItTakes) {
  for (const char* model : {"heads: 4 kv_heads: 2", "heads: 4 kv_heads: 4 post_norms: true",
                            "heads: 8 kv_heads: 1 tied_head: false"}) {
    for (const char* text : {"1x1", "2x2 zero 3", "model 2 of 2x2"}) {
      const std::string what = std::string(model) + ", " + text;
      config::RunConfig run = small_config(model);
      run.mutable_train()->set_deterministic(false);
      run.mutable_batch()->set_global_sequences(8);
      const Layout layout = parse_layouts(text)[0];
      layout.apply(run);
      config::validate(run);
      const mesh::Mesh mesh(run.mesh());
      const auto roles = record_roles(
          run, mesh, make_machine_chip(figures(), {}, mesh.world_size(), 1, DType::bf16), Plugins());
      ASSERT_FALSE(roles.empty());
      LocalJob job(layout.ranks(), {});
      std::vector<std::vector<Record>> records(static_cast<size_t>(layout.ranks()));
      std::vector<Statistics> used(records.size());
      const std::string failures = testing::run_rank_threads(layout.ranks(), [&](int rank) {
        const Plugins plugins;
        const auto cpu = local_device(plugins);
        auto device = std::make_unique<RecordingDevice>(*cpu);
        RecordingDevice* const recorder = device.get();
        recorder->keep_records(false);
        recorder->keep_waits();
        const Engine engine = make_engine(run, job.world(rank), std::move(device), plugins);
        engine.program->initialise(1);
        for (int64_t step = 0; step < 2; ++step) {
          recorder->keep_records(step == 1);
          const Batch batch = synthetic_batch(run, step);
          engine.program->upload(host_batch(batch), 1e-3);
          engine.program->step();
        }
        records[static_cast<size_t>(rank)] = recorder->records();
        (void)engine.program->result(0);
        used[static_cast<size_t>(rank)] = engine.device->statistics();
      });
      ASSERT_EQ(failures, "") << what;
      for (const SimulatedRole& role : roles) {
        const auto rank = static_cast<size_t>(role.rank);
        expect_same(role.records(), records[rank], what + ", rank " + std::to_string(rank));
        EXPECT_EQ(role.memory.bytes_peak, used[rank].bytes_peak) << what << ", rank " << rank;
        EXPECT_EQ(role.memory.peak_by_holder, used[rank].peak_by_holder) << what << ", rank " << rank;
      }
    }
  }
}

TEST(HostChip, ComparisonIsPrinted) {
  Comparison comparison;
  comparison.predicted = {{0.1, 0.2, 0.05}, 2e9};
  comparison.measured = {{0.08, 0.25, 0.05}, 1e9};
  comparison.steps = 1200;
  std::ostringstream text;
  print_comparison(text, comparison);
  EXPECT_EQ(text.str(),
            "step,  1,200 steps    simulated     measured  (chip host, median)\n"
            "  forward                  0.1000 s     0.0800 s    +25.0 %\n"
            "  backward                 0.2000 s     0.2500 s    -20.0 %\n"
            "  optimizer                0.0500 s     0.0500 s     +0.0 %\n"
            "  in all                   0.3500 s     0.3800 s     -7.9 %\n"
            "  peak memory               2.00 GB      1.00 GB   +100.0 %\n");
  comparison.predicted.doubt = "measured among other programs";
  print_comparison(text, comparison);
  EXPECT_TRUE(text.str().ends_with("+100.0 %\n  measured among other programs\n")) << text.str();
}

}  // namespace
}  // namespace toroid::train
