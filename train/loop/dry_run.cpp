#include "train/loop/dry_run.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <optional>
#include <ostream>

#include "core/base/text.h"
#include "train/config/batch_plan.h"
#include "train/engine/staged_snapshot.h"
#include "train/ranks/bf16_products.h"
#include "train/report/model_flops.h"

namespace toroid::train {
namespace {

enum class Keep : uint8_t { memory, operators };

StepRecord record(const config::RunConfig& run, std::unique_ptr<World> world,
                  std::unique_ptr<Device> recorder, const Plugins& plugins, Keep keep = Keep::operators) {
  auto* device = static_cast<RecordingDevice*>(recorder.get());
  if (!device->computes()) {
    device->place_memory();
    const DeviceMaker& maker = plugins.device(run);
    if (maker.recorded_groups) world->carry_out_by(maker.recorded_groups());
  }
  device->keep_records(false);
  const Engine engine = make_engine(run, std::move(world), std::move(recorder), plugins);
  engine.program->initialise(run.train().seed());
  std::optional<SnapshotMemory> snapshot;
  if (run.train().checkpoint().async() && !device->computes())
    snapshot.emplace(*engine.device, *engine.program, run.train().checkpoint().async_share(),
                     run.device() == config::RunConfig::CPU);
  device->keep_records(keep == Keep::operators);
  engine.program->upload(host_batch(synthetic_batch(run, 0, engine.program->options().objective->operands())),
                         0);
  engine.program->step();
  engine.program->meet_pods();  // the outer step, where pods make one every so many steps
  StepRecord out;
  for (const Record& each : device->records()) {
    if (each.kind != Record::Kind::allocate && each.kind != Record::Kind::free) out.operators.push_back(each);
  }
  // A second step finds what the first one left behind.
  device->keep_records(false);
  if (!device->computes()) {
    const Batch batch = synthetic_batch(run, 1, engine.program->options().objective->operands());
    const HostBatch host = host_batch(batch);
    const StepCheck check{&host, engine.program->dealer().deal(run.batch().global_sequences()), {}};
    engine.program->step(engine.program->options().zero.replays ? &check : nullptr);
  }
  out.memory = device->statistics();
  out.placed_bytes = device->placed_peak();
  return out;
}

std::unique_ptr<World> first_rank(const config::RunConfig& run) {
  return make_recorded_world(0, mesh::Mesh(run.mesh()).world_size());
}

void print_units(std::ostream& out, const DecoderConfig& config) {
  out << "units (gathered, used and reduced together)\n";
  const auto units = decoder_units(config);
  for (size_t u = 0; u < units.size(); ++u) {
    int64_t parameters = 0;
    for (const TensorSpec& tensor : units[u].tensors) parameters += tensor.shape.elements();
    out << fmt::format("  {:<12} {:3} tensors {:>16} parameters\n", units[u].name, units[u].tensors.size(),
                       with_commas(parameters));
  }
  const ParameterCount count = count_parameters(config);
  out << "  " << with_commas(count.embedding) << " embedding parameters, " << with_commas(count.other)
      << " others\n";
}

// What the steps of each phase are.
void print_ramp(std::ostream& out, const config::RunConfig& run, const BatchPlan& plan) {
  const mesh::Mesh mesh(run.mesh());
  const int64_t sequences = run.train().deterministic() ? 1 : run.batch().sequences_per_replica();
  const Dealer dealer({0, mesh.pods()}, {0, mesh.data()}, sequences, run.train().deterministic());
  out << "\nbatch.ramp\n  from step    sequences       tokens  microbatches\n";
  for (const BatchPlan::Phase& phase : plan.phases()) {
    out << fmt::format("  {:9} {:12} {:12} {:13}\n", phase.first_step, phase.sequences,
                       phase.sequences * run.batch().tokens_per_sequence(),
                       dealer.microbatches(phase.sequences));
  }
  out << "operators and memory below are the last phase's, for which memory is made\n";
}

void print_operators(std::ostream& out, const std::vector<Record>& operators) {
  out << "\noperators of a step, in order\n      phase      GFLOP    read MB   write MB  operator\n";
  for (size_t i = 0; i < operators.size(); ++i) {
    const Record& each = operators[i];
    out << fmt::format("{:5} {:<9} {:8.3f} {:10.3f} {:10.3f}  ", i, name_of(each.phase),
                       static_cast<double>(each.cost.flops()) / 1e9,
                       static_cast<double>(each.cost.bytes_read) / 1e6,
                       static_cast<double>(each.cost.bytes_written) / 1e6)
        << each.text << '\n';
  }
}

void print_phases(std::ostream& out, const std::vector<Record>& operators) {
  std::map<Phase, Cost> sums;
  std::map<Phase, int64_t> counts;
  for (const Record& each : operators) {
    Cost& sum = sums[each.phase];
    sum.products.insert(sum.products.end(), each.cost.products.begin(), each.cost.products.end());
    sum.vector_flops += each.cost.vector_flops;
    sum.bytes_read += each.cost.bytes_read;
    sum.bytes_written += each.cost.bytes_written;
    ++counts[each.phase];
  }
  out << "\nphase      operators      GFLOP    read MB   write MB\n";
  for (const auto& [phase, sum] : sums) {
    out << fmt::format("{:<10} {:9} {:10.2f} {:10.1f} {:10.1f}\n", name_of(phase), counts[phase],
                       static_cast<double>(sum.flops()) / 1e9, static_cast<double>(sum.bytes_read) / 1e6,
                       static_cast<double>(sum.bytes_written) / 1e6);
  }
}

void print_memory(std::ostream& out, const MemoryPrediction& prediction, bool places) {
  const Statistics& memory = prediction.memory;
  out << "\nmemory at the peak, by holder\n";
  std::vector<std::pair<int64_t, std::string>> holders;
  for (const auto& [holder, bytes] : memory.peak_by_holder) holders.emplace_back(bytes, holder);
  std::sort(holders.rbegin(), holders.rend());
  for (const auto& [bytes, holder] : holders) {
    if (bytes > 0) out << fmt::format("  {:<20} {:>12}\n", holder, human_bytes(bytes));
  }
  out << fmt::format("  {:<20} {:>12}\n", "in all", human_bytes(memory.bytes_peak));
  if (places)
    out << fmt::format("  {:<20} {:>12}  ({} bytes)\n", "with gaps, placed",
                       human_bytes(prediction.placed_bytes), with_commas(prediction.placed_bytes));
}

}  // namespace

StepRecord record_dry(const config::RunConfig& run, const Plugins& plugins) {
  const int threads = compute_threads(run.train());
  return record(
      run, first_rank(run),
      std::make_unique<RecordingDevice>(plugins.device(run).kernels(threads, bf16_products(run.train()))),
      plugins);
}

MemoryPrediction predict_memory(const config::RunConfig& run, World& world, int threads,
                                const Plugins& plugins) {
  return record(
      run, make_recorded_world(world),
      std::make_unique<RecordingDevice>(plugins.device(run).kernels(threads, bf16_products(run.train()))),
      plugins, Keep::memory);
}

StepRecord record_real(const config::RunConfig& run, const Plugins& plugins) {
  const auto device = alone(plugins.device(run), compute_threads(run.train()), bf16_products(run.train()));
  return record(run, first_rank(run), std::make_unique<RecordingDevice>(*device), plugins);
}

void print_record(std::ostream& out, const config::RunConfig& run, const StepRecord& record) {
  const DecoderConfig decoder = decoder_config(run.model());
  print_units(out, decoder);
  if (const BatchPlan plan(run.batch()); plan.ramps()) {
    print_ramp(out, run, plan);
  }
  print_operators(out, record.operators);
  print_phases(out, record.operators);
  const double flops =
      model_flops_per_step(decoder, run.batch().global_sequences(), run.batch().tokens_per_sequence());
  out << fmt::format("model FLOPs of a step (6 N per token and causal attention): {:.3f} TFLOP\n",
                     flops / 1e12);
  // On a processor the host's allocator places them.
  print_memory(out, record, run.device() == config::RunConfig::CUDA && record.placed_bytes > 0);
}

void dry_run(const TrainOptions& options, const Plugins& plugins) {
  print_record(std::cout, options.config, record_dry(options.config, plugins));
}

void record_step(const TrainOptions& options, const Plugins& plugins) {
  print_record(std::cout, options.config, record_real(options.config, plugins));
}

}  // namespace toroid::train
