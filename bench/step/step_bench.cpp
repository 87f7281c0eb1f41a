#include "bench/step/step_bench.h"

#include <sys/resource.h>

#include <algorithm>

#include "bench/step/issue_clock.h"
#include "core/base/clock.h"
#include "core/base/median.h"
#include "core/base/processor_time.h"
#include "core/device/sim/recording_device.h"
#include "train/config/batch_plan.h"
#include "train/engine/engine.h"
#include "train/loop/dry_run.h"
#include "train/loop/memory_fit.h"
#include "train/report/model_flops.h"
#include "train/report/prediction.h"
#include "train/report/step_meter.h"
#include "train/report/trace.h"

namespace toroid::train {
namespace {

// Adds one step's records to the table; equal operators of one phase are one row.
class OperatorTable {
 public:
  void add(const std::vector<Record>& records) {
    std::map<std::pair<Phase, std::string>, double> seconds;
    for (const Record& record : records) {
      if (record.kind != Record::Kind::launch) continue;
      const auto key = std::make_pair(record.phase, record.text);
      OperatorTime& row = rows_[key];
      seconds[key] += record.time.count();
      if (steps_ > 0) continue;
      row.text = record.text;
      row.phase = record.phase;
      ++row.count;
      row.flops += static_cast<double>(record.cost.flops());
      row.bytes += static_cast<double>(record.cost.bytes_read + record.cost.bytes_written);
    }
    for (const auto& [key, value] : seconds) seconds_[key].push_back(value);
    ++steps_;
  }

  std::vector<OperatorTime> take() {
    std::vector<OperatorTime> out;
    for (auto& [key, row] : rows_) {
      row.seconds = median(seconds_[key]);
      out.push_back(row);
    }
    std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
    return out;
  }

 private:
  std::map<std::pair<Phase, std::string>, OperatorTime> rows_;
  std::map<std::pair<Phase, std::string>, std::vector<double>> seconds_;
  int64_t steps_ = 0;
};

// What all ranks measured in each step, in one exchange after the last.
void add_communication(StepBench& bench, const Engine& engine, const std::vector<StepShare>& steps) {
  std::vector<double> mine;
  for (const StepShare& step : steps) {
    const std::vector<double> numbers = to_numbers(step);
    mine.insert(mine.end(), numbers.begin(), numbers.end());
  }
  const std::vector<double> all = engine.world->exchange().numbers(mine, "communication");
  const size_t width = mine.size() / steps.size();
  std::vector<double> exposed, under_way, overlap;
  for (size_t step = 0; step < steps.size(); ++step) {
    std::vector<StepShare> ranks;
    for (size_t from = step * width; from < all.size(); from += mine.size()) {
      ranks.push_back(share_of(std::span(all).subspan(from, width)));
    }
    const StepCommunication found = summarise(ranks);
    exposed.push_back(found.exposed_s);
    under_way.push_back(found.under_way_s);
    if (found.overlap) overlap.push_back(*found.overlap);
  }
  bench.exposed_s = median(exposed);
  bench.communication_s = median(under_way);
  if (!overlap.empty()) bench.overlap = median(overlap);
}

}  // namespace

std::optional<double> StepBench::mfu() const {
  const double peak = peak_flops_per_s.value_or(floor.best_flops);
  if (!(peak > 0) || flops_per_s() > peak) return std::nullopt;
  return flops_per_s() / peak;
}

std::optional<double> StepBench::floor_s() const {
  if (!(floor.best_flops > 0) || floor.seconds() > median_s) return std::nullopt;
  return floor.seconds();
}

StepBench bench_step(const config::RunConfig& run, const StepBenchOptions& options, const Plugins& plugins) {
  StepBench out;
  out.steps = options.steps;
  if (const BatchPlan plan(run.batch()); plan.ramps()) out.ramp = to_text(plan);
  auto [world, cpu, products] = join_ranks(run, plugins, {{"--steps", std::to_string(options.steps)}});
  if (run.train().precision() == config::TrainConfig::BF16) out.bf16_products = name_of(products);
  out.rank = world->rank();
  out.ranks = world->size();
  out.threads = cpu->traits().threads;
  check_memory(run, *world, *cpu, plugins);
  DecoderConfig decoder;
  StepOptions step_options;
  {
    std::unique_ptr<Device> device = std::make_unique<RecordingDevice>(*cpu, options.with_operators);
    auto* recorder = static_cast<RecordingDevice*>(device.get());
    recorder->keep_records(options.with_operators);
    Engine engine = make_engine(run, std::move(world), std::move(device), plugins);
    StepProgram& program = *engine.program;
    program.mark_microbatches(true);
    decoder = program.config();
    step_options = program.options();
    program.initialise(run.train().seed());
    const double rate = plugins.schedules.make(run.optim().schedule())(0);
    out.tokens = step_options.global_sequences * step_options.tokens_per_sequence;
    out.model_flops =
        model_flops_per_step(decoder, step_options.global_sequences, step_options.tokens_per_sequence);

    const mesh::Mesh mesh(run.mesh());
    std::optional<Tracer> tracer;
    if (!options.trace.empty()) tracer.emplace(options.trace, run.train().trace(), *cpu, engine, mesh);
    StepMeter meter(*cpu, *engine.world, mesh);
    if (const auto peak = cpu->peak_flops_per_s(step_options.compute))
      out.peak_flops_per_s = *peak * out.ranks;
    std::optional<IssueClock> issue;
    if (run.device() != config::RunConfig::CPU && !options.with_operators) issue.emplace(*recorder);
    std::vector<StepShare> shares;
    std::vector<double> seconds, issued, forward, backward, optimizer;
    OperatorTable table;
    Seconds memory_before{0}, wire_before{0}, own_before{0};
    const auto memory_checks = [&] {
      const StateChecksums* const checksums = program.zero().checksums();
      return checksums == nullptr ? Seconds(0) : checksums->spent();
    };
    const auto wire_checks = [&] {
      const WireChecks* const checks = engine.world->wire_checks();
      return checks == nullptr ? Seconds(0) : checks->spent();
    };
    for (int64_t s = 0; s <= options.steps; ++s) {
      const Batch batch = synthetic_batch(run, s);
      program.upload(host_batch(batch), rate);
      recorder->clear();
      if (tracer) tracer->begin_step(s);
      meter.begin();
      const Stopwatch watch;
      if (issue) issue->begin();
      program.step();
      const double issuing = issue ? issue->end().count() : 0;
      engine.device->synchronize(program.marks().end, Seconds(3600));
      const double took = watch.elapsed().count();
      StepShare share = meter.end();
      meter.time(share, program.marks().begin, program.marks().end);
      if (tracer) tracer->end_step();
      if (s == 0) {
        out.first_step_s = took;
        memory_before = memory_checks();
        wire_before = wire_checks();
        own_before = thread_processor_time();
        continue;
      }
      const StepPhases parts = phases_of(*engine.device, program.marks());
      seconds.push_back(took);
      issued.push_back(issuing);
      shares.push_back(share);
      forward.push_back(parts.forward_s);
      backward.push_back(parts.backward_s);
      optimizer.push_back(parts.optimizer_s);
      if (options.with_operators) table.add(recorder->records());
    }
    if (tracer) tracer->close();
    const Seconds own = thread_processor_time() - own_before;
    out.memory_checks = (memory_checks() - memory_before) / own;
    out.wire_checks = (wire_checks() - wire_before) / own / out.threads;
    add_communication(out, engine, shares);
    out.loss = program.result(0).loss;
    out.remarks = engine.device->remarks();
    out.median_s = median(seconds);
    if (issue) out.issue_s = median(issued);
    out.min_s = *std::min_element(seconds.begin(), seconds.end());
    out.forward_s = median(forward);
    out.backward_s = median(backward);
    out.optimizer_s = median(optimizer);
    if (options.with_operators) out.operators = table.take();
    out.used = engine.device->statistics();
    out.allocated_gb = static_cast<double>(out.used.bytes_peak) / 1e9;
    out.predicted = predict_memory(run, *engine.world, out.threads, plugins).memory;
    out.memory = exchange_memory(*engine.world, out.predicted, out.used);
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  out.peak_rss_gb = static_cast<double>(usage.ru_maxrss) * 1024 / 1e9;
  if (options.with_floor && out.ranks == 1) {
    // A recorder has numbered what was issued to that device: what follows goes to one of its own.
    cpu = alone(plugins.device(run), out.threads, products);
    out.floor = measure_floor(*cpu, out.threads, decoder, step_options);
  }
  return out;
}

}  // namespace toroid::train
