#include "simulate/fit/machine_chip.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "parallel/mesh/mesh.h"
#include "simulate/play/simulate.h"
#include "train/engine/engine.h"
#include "train/machine/collective_table.h"
#include "train/machine/machine_figures.h"
#include "train/machine/run_peak.h"

namespace toroid::train {
namespace {

constexpr int64_t kMostCores = 4096;
constexpr double kLeastRate = 1, kMostRate = 1e24;  // FLOP/s and bytes/s

}  // namespace

sim::Chip make_machine_chip(const config::MachineFigures& figures,
                            std::vector<sim::CollectiveTime> collectives, int ranks, int threads,
                            DType type) {
  check_range("threads", figures.has_threads(), figures.threads(), int64_t{1}, kMostCores);
  check_range("memory_bytes", figures.has_memory_bytes(), figures.memory_bytes(), int64_t{1},
              int64_t{1} << 50);
  check_range("bandwidth_bytes_per_s", figures.has_bandwidth_bytes_per_s(), figures.bandwidth_bytes_per_s(),
              kLeastRate, kMostRate);
  const bool f32 = type == DType::f32;
  const double peak = f32 ? figures.fp32_flops_per_s() : figures.bf16_flops_per_s();
  check_range(f32 ? "fp32_flops_per_s" : "bf16_flops_per_s", peak, kLeastRate, kMostRate);
  sim::MeasuredMachine measured;
  measured.cores = static_cast<int>(figures.threads());
  measured.ranks = ranks;
  measured.threads = threads;
  measured.memory_bytes_per_s = figures.bandwidth_bytes_per_s();
  measured.on_all = operators_of(figures, type, figures.threads());
  if (figures.threads() > 1) measured.on_one = operators_of(figures, type, 1);
  if (measured.on_all.empty()) {
    throw UserError("it has no figures of " + std::string(name_of(type)) +
                    " operators; run `toroid doctor` without --quick to measure them");
  }
  measured.collectives = std::move(collectives);

  sim::Chip chip;
  chip.name = "host";
  chip.peak_flops_per_s[type] = peak * measured.share();
  chip.memory_bytes = figures.memory_bytes() / ranks;
  chip.memory_bytes_per_s = measured.memory_bytes_per_s * measured.share();
  chip.topology.is_switch = true;
  chip.topology.pod = {ranks};
  chip.topology.bytes_per_s = chip.memory_bytes_per_s;
  chip.host.chips = ranks;
  chip.host.chip_bytes_per_s = chip.memory_bytes_per_s;
  chip.measured = std::move(measured);
  return chip;
}

sim::Chip read_machine_chip(const config::RunConfig& run) {
  const auto figures = read_machine_figures();
  const std::string file = printable(machine_figures_path().string());
  if (!figures) {
    throw UserError("chip host is this machine as `toroid doctor` measures it, and there is no " + file +
                    "; run `toroid doctor` first, or name a chip with --chip");
  }
  const int ranks = mesh::Mesh(run.mesh()).world_size();
  const int threads = compute_threads(run.train(), static_cast<size_t>(ranks));
  try {
    return make_machine_chip(*figures, read_collective_times(), ranks, threads,
                             run.train().precision() == config::TrainConfig::FP32 ? DType::f32 : DType::bf16);
  } catch (const UserError& error) {
    throw UserError(file + ": " + error.what());
  }
}

std::optional<Prediction> predict_on_this_machine(const config::RunConfig& run, const Plugins& plugins) {
  if (run.train().deterministic() || run.device() == config::RunConfig::CUDA) return std::nullopt;
  const auto figures = read_machine_figures();
  if (!figures) return std::nullopt;
  try {
    const Simulation done = simulate(run, read_machine_chip(run), plugins);
    const auto seconds = [&](Phase phase) { return done.played.phases[static_cast<size_t>(phase)].count(); };
    Prediction out;
    out.time.forward_s = seconds(Phase::forward);
    out.time.backward_s = seconds(Phase::recompute) + seconds(Phase::backward);
    // What nothing follows, such as the end of the last collectives, belongs to the optimizer.
    out.time.optimizer_s = done.played.step.count() - out.time.forward_s - out.time.backward_s;
    out.bytes = static_cast<double>(done.roles[done.fullest].memory.bytes_peak);
    out.doubt =
        doubt_of(*figures, run.train().precision() == config::TrainConfig::FP32 ? DType::f32 : DType::bf16);
    if (!out.doubt.empty())
      out.doubt = "`toroid doctor` should measure this machine again, alone: " + out.doubt;
    return out;
  } catch (const UserError& error) {
    log::warn("no prediction for this machine: {}", error.what());
    return std::nullopt;
  }
}

}  // namespace toroid::train
