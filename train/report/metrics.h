// metrics.jsonl: one JSON object a line, for steps and for validations. Numbers are written with all their
// digits; what is not finite is null.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "core/base/io/file.h"
#include "train/report/prediction.h"
#include "train/report/step_meter.h"

namespace toroid::train {

struct StepRow {
  int64_t step = 0;  // counted from 1: steps finished
  double loss = 0, gradient_norm = 0, learning_rate = 0;
  int64_t tokens = 0;  // trained on since the start of the run, all steps
  double tokens_per_s = 0, step_s = 0;
  std::optional<double> mfu;  // absent until `toroid doctor` has measured the machine
  StepCommunication communication;
  bool saving = false;  // a save was under way behind it
  bool skipped = false;
  int64_t skipped_total = 0;
};

struct ValidationRow {
  int64_t step = 0;
  double validation_loss = 0, perplexity = 0, bits_per_byte = 0;
  int64_t targets = 0;
  std::map<std::string, double> metrics = {};  // the objective's own
};

// When a run is over: what the simulator's chip `host` says of its step, beside the median that was measured.
struct PredictionRow {
  int64_t step = 0;
  Comparison comparison;
};

// Moves the rows of steps later than `step` from `metrics` to the file `to`, which is written only where
// there are any. A stop in between leaves them in one of both files at least.
void move_later_rows(const Path& metrics, int64_t step, const Path& to);

class MetricsFile {
 public:
  // Keeps the rows of steps up to `steps_done` of an earlier run and drops later ones, which will come again.
  MetricsFile(const Path& path, int64_t steps_done);
  void write(const StepRow& row);
  void write(const ValidationRow& row);
  void write(const PredictionRow& row);

 private:
  void line(const std::string& text);
  Path path_;
  std::ofstream out_;
};

}  // namespace toroid::train
