// What looks for silent corruption while a run goes on (train.detect, docs/operations.md): asks those who can
// see it (memory: parallel/zero/state_checksums.h; wire: parallel/comm/watch/wire_checks.h; compute: a
// microbatch of StepProgram done again), has the ranks compare what they found, and says whose it is. A
// finding is written to incidents.jsonl and ends the run, on every rank that hears of it, as a
// CorruptionError.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/io/file.h"
#include "train/engine/engine.h"
#include "train/report/incidents.h"

namespace toroid::train {

class Detectors {
 public:
  // All ranks of the engine's world make it together, and make the same calls.
  Detectors(const config::DetectConfig& config, Engine& engine);
  // Where incidents are written.
  void write_to(const Path& run_directory) { directory_ = run_directory; }

  // Issues the step `step`, and compares what its first microbatch gives with the same computed again where
  // that is due; then it waits for the device and for the other ranks.
  void step(int64_t step, const HostBatch& batch, const Deal& deal);

  // What this rank has to tell the others of a step, as many numbers each time: to be exchanged with the
  // step's, once its result is known. `took`: the step.
  std::vector<double> tell(int64_t step, int steps_ago, Seconds took);
  size_t told() const { return 1 + (pods_ > 1 ? 1 + kDigest : 0); }
  // All ranks' numbers of a step, one rank's after the other.
  void hear(int64_t step, std::span<const double> all);
  // Before what is held is saved: compares it once more.
  void look(int64_t step);

  // Writes what a rank's transfers found, which is thrown where it is met.
  void record(int64_t step, const Finding& finding) const;
  // Of the steps' processor time on this rank: "memory 0.52 %, wire 0.31 %"; empty where nothing looks.
  std::string costs() const;

 private:
  static constexpr size_t kDigest = 4;  // numbers of 32 bits
  bool due(int64_t every, int64_t step) const { return every > 0 && step % every == 0; }
  std::string who(int rank) const;
  void compare_gradients(int64_t step, const HostBatch& batch, const Deal& deal);
  // The first microbatch of the rank `shift` places on along the data axis.
  Deal shifted(const Deal& deal, int shift) const;
  int neighbour(int rank, int shift) const;
  std::vector<double> exchange(const std::vector<Checksum>& sums) const;
  [[noreturn]] void fail(Finding finding) const;

  config::DetectConfig config_;
  Engine& engine_;
  Path directory_;
  int pods_ = 1, data_ = 1;
  int shift_ = 0;  // whose microbatch is computed again: 0 its own
  std::optional<StepMarks> replayed_;
  // Processor time of this thread: when it last told, in the steps since the first, and of that.
  std::optional<Seconds> began_;
  Seconds steps_{0}, replays_{0}, replicas_{0};
};

}  // namespace toroid::train
