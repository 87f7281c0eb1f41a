#include "train/config/check.h"

#include <cstdint>
#include <string>

#include "core/base/error.h"
#include "core/base/range.h"
#include "train/train.pb.h"

namespace toroid::train {
namespace {

constexpr int64_t kMostSteps = 1'000'000'000'000;
constexpr int64_t kMostSequences = int64_t{1} << 24;
constexpr int kMostPhases = 1000;

void check_ramp(const config::BatchConfig& batch) {
  const int phases = batch.ramp_size();
  if (phases > kMostPhases) {
    throw UserError("batch.ramp has " + std::to_string(phases) + " phases; at most " +
                    std::to_string(kMostPhases) + " are possible");
  }
  for (int i = 0; i < phases; ++i) {
    const config::BatchPhase& phase = batch.ramp(i);
    const auto name = [](int of) { return "batch.ramp[" + std::to_string(of) + "]"; };
    check_range(name(i) + ".step", phase.step(), int64_t{0}, kMostSteps);
    check_range(name(i) + ".global_sequences", phase.has_global_sequences(), phase.global_sequences(),
                int64_t{1}, kMostSequences);
    if (i == 0) {
      if (phase.step() == 0) continue;
      throw UserError(name(0) + ".step is " + std::to_string(phase.step()) +
                      "; the first phase begins at step 0");
    }
    const config::BatchPhase& before = batch.ramp(i - 1);
    if (phase.step() <= before.step()) {
      throw UserError(name(i) + ".step is " + std::to_string(phase.step()) + ", and " + name(i - 1) +
                      " begins at step " + std::to_string(before.step()) +
                      "; list the phases in the order of their steps");
    }
    if (phase.global_sequences() <= before.global_sequences()) {
      throw UserError(name(i) + ".global_sequences is " + std::to_string(phase.global_sequences()) +
                      ", and " + name(i - 1) + " has " + std::to_string(before.global_sequences()) +
                      "; the batches of a ramp grow");
    }
  }
  if (phases == 0 || batch.global_sequences() == batch.ramp(phases - 1).global_sequences()) return;
  throw UserError("batch.global_sequences is " + std::to_string(batch.global_sequences()) +
                  ", and batch.ramp ends with " + std::to_string(batch.ramp(phases - 1).global_sequences()) +
                  " sequences; leave it out, so that it follows from the ramp, or let both be the same");
}

}  // namespace

void check(const config::BatchConfig& batch) {
  check_range("batch.tokens_per_sequence", batch.has_tokens_per_sequence(), batch.tokens_per_sequence(),
              int64_t{1}, int64_t{1} << 20);
  check_ramp(batch);
  check_range("batch.global_sequences", batch.has_global_sequences(), batch.global_sequences(), int64_t{1},
              kMostSequences);
  check_range("batch.sequences_per_replica", batch.sequences_per_replica(), 1, int64_t{1} << 16);
}

void check(const config::TrainConfig& train) {
  check_range("train.steps", train.has_steps(), train.steps(), int64_t{0}, kMostSteps);
  check_range("train.threads", train.threads(), 0, 4096);
  check_range("train.validate.every", train.validate().every(), 0, kMostSteps);
  check_range("train.validate.sequences", train.validate().sequences(), 1, int64_t{1} << 24);
  check_range("train.checkpoint.every", train.checkpoint().every(), 0, kMostSteps);
  check_range("train.checkpoint.keep", train.checkpoint().keep(), 1, 1'000'000);
  check_range("train.checkpoint.keep_every", train.checkpoint().keep_every(), 0, kMostSteps);
  check_range("train.checkpoint.keep_best", train.checkpoint().keep_best(), 0, 1'000'000);
  check_range("train.checkpoint.async_share", train.checkpoint().async_share(), 1e-3, 1.0);
  check_range("train.log.every", train.log().every(), 1, kMostSteps);
  check_range("train.deadline_s", train.deadline_s(), 1e-3, 1e7);
  check_range("train.deadline_floor_s", train.deadline_floor_s(), 1e-3, 1e7);
  check_range("train.straggler.factor", train.straggler().factor(), 1.0, 1e6);
  check_range("train.detect.memory_every", train.detect().memory_every(), 0, kMostSteps);
  check_range("train.detect.wire_every", train.detect().wire_every(), 0, 1'000'000);
  check_range("train.detect.replay_every", train.detect().replay_every(), 0, kMostSteps);
  check_range("train.detect.replicas_every", train.detect().replicas_every(), 0, kMostSteps);
  check_range("train.straggler.steps", train.straggler().steps(), 0, kMostSteps);
  check_range("train.trace.after", train.trace().after(), 0, kMostSteps);
  check_range("train.trace.steps", train.trace().steps(), 1, 1000);
  check_range("train.loss.block_tokens", train.loss().block_tokens(), 0, int64_t{1} << 24);
}

}  // namespace toroid::train
