#include "train/config/check.h"

#include <cstdint>

#include "core/base/range.h"
#include "train/train.pb.h"

namespace toroid::train {
namespace {

constexpr int64_t kMostSteps = 1'000'000'000'000;

}  // namespace

void check(const config::BatchConfig& batch) {
  check_range("batch.tokens_per_sequence", batch.has_tokens_per_sequence(), batch.tokens_per_sequence(),
              int64_t{1}, int64_t{1} << 20);
  check_range("batch.global_sequences", batch.has_global_sequences(), batch.global_sequences(), int64_t{1},
              int64_t{1} << 24);
  check_range("batch.sequences_per_replica", batch.sequences_per_replica(), 1, int64_t{1} << 16);
}

void check(const config::TrainConfig& train) {
  check_range("train.steps", train.has_steps(), train.steps(), int64_t{0}, kMostSteps);
  check_range("train.threads", train.threads(), 0, 4096);
  check_range("train.validate.every", train.validate().every(), 0, kMostSteps);
  check_range("train.validate.sequences", train.validate().sequences(), 1, int64_t{1} << 24);
  check_range("train.checkpoint.every", train.checkpoint().every(), 0, kMostSteps);
  check_range("train.checkpoint.keep", train.checkpoint().keep(), 1, 1'000'000);
  check_range("train.log.every", train.log().every(), 1, kMostSteps);
  check_range("train.deadline_s", train.deadline_s(), 1e-3, 1e7);
  check_range("train.straggler.factor", train.straggler().factor(), 1.0, 1e6);
  check_range("train.straggler.steps", train.straggler().steps(), 0, kMostSteps);
  check_range("train.trace.after", train.trace().after(), 0, kMostSteps);
  check_range("train.trace.steps", train.trace().steps(), 1, 1000);
  check_range("train.loss.block_tokens", train.loss().block_tokens(), 0, int64_t{1} << 24);
}

}  // namespace toroid::train
