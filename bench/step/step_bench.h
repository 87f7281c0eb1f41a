// Times the training step on synthetic tokens: `toroid bench step`.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/step/floor.h"
#include "configs/run.pb.h"
#include "core/base/io/file.h"
#include "train/engine/plugins.h"
#include "train/report/memory_report.h"

namespace toroid::train {

struct OperatorTime {
  std::string text;  // the operator with its shapes
  Phase phase = Phase::forward;
  int64_t count = 0;            // calls a step
  double seconds = 0;           // a step, median over the steps
  double flops = 0, bytes = 0;  // a step
};

struct StepBench {
  int64_t steps = 0, tokens = 0;
  std::string ramp;  // the phases of a batch that grows, whose last one is timed; else empty
  int rank = 0, ranks = 1;
  int threads = 1;                                                                 // of each rank
  double median_s = 0, min_s = 0, forward_s = 0, backward_s = 0, optimizer_s = 0;  // medians but min_s
  double first_step_s = 0;
  // Of a device that runs behind its host, what the host takes to issue a step's work when it waits for
  // nothing (issue_clock.h); nothing where operators were timed, for which it waits.
  std::optional<double> issue_s;
  // As in metrics.jsonl, means over the ranks; medians over the steps.
  double exposed_s = 0, communication_s = 0;
  std::optional<double> overlap;
  // Of this rank's processor time in the steps, that within train.detect's checksums.
  double memory_checks = 0, wire_checks = 0;
  double peak_rss_gb = 0;  // of the process after the steps, GB = 1e9 bytes
  double allocated_gb = 0;
  Statistics predicted, used;     // memory of this rank
  std::vector<MemoryUse> memory;  // of all ranks
  double loss = 0;
  double model_flops = 0;
  std::string bf16_products;  // NATIVE or WIDENED; empty where products are fp32
  Floor floor;
  std::optional<double> peak_flops_per_s;  // of all ranks' devices, by their data sheets
  std::vector<std::string> remarks;        // Device::remarks() of this rank's
  std::vector<OperatorTime> operators;     // with `with_operators`: slowest first
  double tokens_per_s() const { return static_cast<double>(tokens) / median_s; }
  double flops_per_s() const { return model_flops / median_s; }
  // Of the data sheet's peak, or of the best product that was measured. Nothing where neither is known, and
  // where the step was faster than the peak, or than the floor: other programs ran while that was measured,
  // and it is none.
  std::optional<double> mfu() const;
  std::optional<double> floor_s() const;
};

struct StepBenchOptions {
  int64_t steps = 7;
  bool with_operators = false;
  bool with_floor = true;
  Path trace;  // as TrainOptions has it
};

// One step to warm up, then options.steps timed ones, as one of the ranks that were launched. Memory is this
// rank's; the floor is of one rank alone and is not measured for more.
StepBench bench_step(const config::RunConfig& run, const StepBenchOptions& options, const Plugins& plugins);

}  // namespace toroid::train
