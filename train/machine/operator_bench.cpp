#include "train/machine/operator_bench.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/device/sim/recording_device.h"
#include "train/config/load.h"
#include "train/engine/engine.h"
#include "train/machine/best_of.h"
#include "train/ranks/bf16_products.h"

namespace toroid::train {
namespace {

// Products between 1 and 20 GFLOP, operands within the caches and beyond them, heads of 64 to 256.
constexpr const char* kModels[] = {
    "model { d_model: 640 layers: 1 heads: 5 kv_heads: 1 head_dim: 128 ffn: 2560 vocab: 12288 } "
    "batch { tokens_per_sequence: 1024 global_sequences: 2 sequences_per_replica: 2 }",
    "model { d_model: 384 layers: 1 heads: 6 kv_heads: 2 head_dim: 64 ffn: 1024 vocab: 4096 } "
    "batch { tokens_per_sequence: 384 global_sequences: 4 sequences_per_replica: 4 }",
    "model { d_model: 1024 layers: 1 heads: 4 kv_heads: 4 head_dim: 256 ffn: 3584 vocab: 6144 } "
    "batch { tokens_per_sequence: 256 global_sequences: 3 sequences_per_replica: 3 }",
    "model { d_model: 192 layers: 1 heads: 3 kv_heads: 1 head_dim: 64 ffn: 576 vocab: 8192 } "
    "batch { tokens_per_sequence: 256 global_sequences: 2 sequences_per_replica: 2 }"};
constexpr const char* kRest =
    " optim { adamw { beta1: 0.9 beta2: 0.95 weight_decay: 0.1 } schedule { constant { peak: 1e-4 } } "
    "clip_norm: 1.0 } train { steps: 1 seed: 1 remat: NONE precision: ";

struct Timed {
  Cost cost;
  std::vector<double> seconds;
};
// By kind and operands.
using Timings = std::map<std::pair<std::string, std::string>, Timed>;

// Returns how much its steps differ.
double time_model(const std::string& text, int threads, int repetitions, Timings& timings) {
  const Plugins plugins;
  const config::RunConfig run = config::load_text(text, "a model of toroid doctor").run;
  CpuDevice cpu(plugins.cpu_kernels(threads, bf16_products(run.train())));
  auto device = std::make_unique<RecordingDevice>(cpu, true);
  RecordingDevice* const recorder = device.get();
  recorder->keep_records(false);
  const Engine engine = make_engine(run, make_single_world(), std::move(device), plugins);
  engine.program->initialise(run.train().seed());
  BestOf steps;
  for (int i = 0; i <= repetitions; ++i) {
    recorder->clear();
    const Batch batch = synthetic_batch(run, i);
    engine.program->upload(host_batch(batch), 1e-4);
    recorder->keep_records(i > 0);  // the first warms up
    const Stopwatch watch;
    engine.program->step();
    if (i > 0) steps.add(1 / watch.elapsed().count());
    for (const Record& record : recorder->records()) {
      if (record.kind != Record::Kind::launch || record.time.count() <= 0) continue;
      Timed& timed = timings[{std::string(record.op), record.text}];
      timed.cost = record.cost;
      timed.seconds.push_back(record.time.count());
    }
  }
  return steps.spread();
}

// A quarter of the times are shorter: the machine does other things now and then, which only lengthens them.
double undisturbed(std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 4];
}

}  // namespace

MeasuredOperators measure_operators(DType type, int threads, int repetitions) {
  Timings timings;
  const std::string precision = type == DType::f32 ? "FP32 }" : "BF16 }";
  MeasuredOperators out;
  for (const char* const model : kModels)
    out.spread = std::max(out.spread, time_model(model + (kRest + precision), threads, repetitions, timings));
  std::map<std::string, std::vector<sim::OperatorSample>> samples;
  for (const auto& [key, timed] : timings)
    samples[key.first].push_back({timed.cost, Seconds(undisturbed(timed.seconds))});
  for (const auto& [kind, of_kind] : samples) out.figures[kind] = sim::fit(of_kind);
  return out;
}

}  // namespace toroid::train
