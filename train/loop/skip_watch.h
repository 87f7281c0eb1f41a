// Skipped steps, counted in all and in a row, with the sequences that the latest of them took, so that who
// stops because of them can say what to leave out.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "train/checkpoint/checkpoint.h"

namespace toroid::train {

class SkipWatch {
 public:
  // Stops after `most` skipped steps in a row; 0: never.
  explicit SkipWatch(int64_t most) : most_(most) {}

  // What a checkpoint says of the steps before it; nothing of what came after is remembered.
  void resume(int64_t total, int64_t in_a_row);
  // Counts a finished step, whose number begins at 1, with the global sequences that it took.
  void see(int64_t step, bool skipped, SequenceRange taken);

  int64_t total() const { return total_; }
  int64_t in_a_row() const { return in_a_row_; }
  bool stops() const { return stop_.has_value(); }
  // The sequences that the skipped steps took, where it stops.
  SequenceRange taken() const { return stop_->taken; }

  // Which steps it stops for, and what they took.
  std::string what() const;
  // Why it stops, and how to go on without the data: from the checkpoint of step `saved_step` (-1: there is
  // none), whose next global sequence is `saved_next`.
  std::string reason(int64_t saved_step, int64_t saved_next) const;

 private:
  struct Row {  // skipped steps one after another, of this start of the run
    int64_t first_step = 0, last_step = 0;
    SequenceRange taken;
    int64_t count = 0;  // with those before this start
  };
  int64_t most_, total_ = 0, in_a_row_ = 0;
  std::optional<Row> row_, stop_;
};

}  // namespace toroid::train
