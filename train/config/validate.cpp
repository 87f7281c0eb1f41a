// Relations between components. What concerns one component alone is in its own check().
#include <cstdint>
#include <string>

#include "core/base/error.h"
#include "core/base/text.h"
#include "core/model/check.h"
#include "core/model/split.h"
#include "data/check.h"
#include "optim/check.h"
#include "parallel/mesh/check.h"
#include "parallel/pathways/check.h"
#include "parallel/zero/check.h"
#include "train/config/batch_plan.h"
#include "train/config/check.h"
#include "train/config/load.h"

namespace toroid::config {
namespace {

void check_device(const RunConfig& run) {
  if (run.device() == RunConfig::SIM && run.chip().empty())
    throw UserError("chip is not set; device: SIM needs one");
  if (run.device() != RunConfig::SIM && !run.chip().empty()) {
    throw UserError("chip is \"" + printable(run.chip()) + "\" but device is " +
                    RunConfig::Device_Name(run.device()) + "; only device: SIM has a chip");
  }
  if (run.device() != RunConfig::SIM && run.zero().gradients() != ZeroConfig::FP32) {
    throw UserError("zero.gradients is BF16 but device is " + RunConfig::Device_Name(run.device()) +
                    ", whose gradients are fp32; only device: SIM has others");
  }
  const bool has_faults = run.faults().fault_size() > 0 || run.faults().has_random();
  if (run.device() == RunConfig::SIM && has_faults) {
    throw UserError(
        "faults are set but device is SIM, which computes nothing that could fail; leave them out");
  }
  if (run.simulate().has_program()) {
    throw UserError("simulate.program is \"" + printable(run.simulate().program()) +
                    "\"; programs had rules of their own and are gone: the player plays all steps, by "
                    "simulate.schedule, such as \"xla_2023\" (configs/schedules)");
  }
  if (run.device() != RunConfig::SIM && run.simulate().schedule() != SimulateConfig().schedule()) {
    throw UserError("simulate.schedule is \"" + printable(run.simulate().schedule()) + "\" but device is " +
                    RunConfig::Device_Name(run.device()) + "; only device: SIM has others than Toroid's own");
  }
}

void check_batch(const RunConfig& run) {
  const BatchConfig& batch = run.batch();
  constexpr int64_t kMostTokens = int64_t{1}
                                  << 26;  // of a microbatch; activations then stay below 2^62 bytes
  const int64_t tokens = batch.sequences_per_replica() * batch.tokens_per_sequence();
  if (tokens > kMostTokens) {
    throw UserError("batch.sequences_per_replica (" + std::to_string(batch.sequences_per_replica()) +
                    ") x batch.tokens_per_sequence (" + std::to_string(batch.tokens_per_sequence()) +
                    ") is " + with_commas(tokens) + " tokens a microbatch; at most " +
                    with_commas(kMostTokens) + " are possible");
  }
  const int64_t step_tokens = batch.global_sequences() * batch.tokens_per_sequence();
  int64_t run_tokens = 0;
  if (__builtin_mul_overflow(step_tokens, run.train().steps(), &run_tokens)) {
    throw UserError("train.steps (" + std::to_string(run.train().steps()) + ") x " +
                    with_commas(step_tokens) + " tokens a step is more than 2^63 tokens");
  }
}

void check_fewer_pods(const RunConfig& run) {
  if (run.batch().on_fewer_pods() != BatchConfig::SCALE || run.batch().ramp_size() == 0) return;
  throw UserError(
      "batch.on_fewer_pods is SCALE and batch.ramp is set; a batch that grows with the steps is not scaled "
      "with the pods: use KEEP, or leave out the ramp");
}

void check_vocabulary(const RunConfig& run) {
  if (!run.data().tokenizer().has_train()) return;
  const int64_t trained = run.data().tokenizer().train().vocab();
  if (trained > run.model().vocab()) {
    throw UserError("data.tokenizer.train.vocab (" + std::to_string(trained) +
                    ") is more than model.vocab (" + std::to_string(run.model().vocab()) +
                    "); the model has no row for its last ids");
  }
}

// What the model axis splits, and what the sums of deterministic mode ask of every axis.
void check_layout(const RunConfig& run) {
  const std::string why =
      why_not_split(run.model().heads(), run.model().ffn(), run.mesh().model(), run.train().deterministic());
  if (!why.empty()) throw UserError(why);
  if (!run.train().deterministic()) return;
  const auto power_of_two = [](const char* name, int64_t value) {
    if ((value & (value - 1)) == 0) return;
    throw UserError(std::string(name) + " (" + std::to_string(value) +
                    ") is not a power of two; train.deterministic sums over each axis as a balanced tree");
  };
  power_of_two("mesh.pods", run.mesh().pods());
  power_of_two("mesh.data", run.mesh().data());
}

// What pods that train apart, or round what they send, ask of the rest.
void check_pods(const RunConfig& run) {
  const PathwaysConfig& pathways = run.pathways();
  const bool deterministic = run.train().deterministic();
  if (deterministic && pathways.wire() != PathwaysConfig::FP32) {
    throw UserError("pathways.wire is " + PathwaysConfig::Wire_Name(pathways.wire()) +
                    ", which rounds what each pod sends; train.deterministic sums exactly: use FP32");
  }
  if (pathways.outer_case() == PathwaysConfig::OUTER_NOT_SET || run.mesh().pods() <= 1) return;
  const int64_t pods = run.mesh().pods();
  const int64_t round = pods * run.mesh().data() * (deterministic ? 1 : run.batch().sequences_per_replica());
  const train::BatchPlan plan(run.batch());
  for (const train::BatchPlan::Phase& phase : plan.phases()) {
    const int64_t sequences = phase.sequences;
    if (sequences % round == 0 && !(deterministic && (sequences & (sequences - 1)) != 0)) continue;
    throw UserError(phase.name + " (" + std::to_string(sequences) + ") are not dealt evenly to mesh.pods (" +
                    std::to_string(pods) +
                    "), whose outer gradients count alike under pathways.nesterov; choose " +
                    (deterministic ? "a power of two and " : "") + "a multiple of " + std::to_string(round) +
                    (deterministic ? ", pods x data" : ", pods x data x sequences_per_replica"));
  }
}

}  // namespace

void validate(const RunConfig& run) {
  check_device(run);
  model::check(run.model());
  mesh::check(run.mesh());
  train::check(run.batch());
  train::check(run.train());
  zero::check(run.zero());
  pathways::check(run.pathways());
  train::check(run.faults());
  optim::check(run.optim());
  if (run.has_data()) data::check(run.data());
  check_layout(run);
  check_batch(run);
  check_fewer_pods(run);
  check_pods(run);
  check_vocabulary(run);
}

}  // namespace toroid::config
