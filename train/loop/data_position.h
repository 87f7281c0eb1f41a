// Where a run stands in its data. It is counted as the run goes, never computed from the step: what a step
// takes, and what is left out, may change from one start of the run to the next.
#pragma once

#include <cstdint>
#include <string>

#include "configs/run.pb.h"
#include "data/batch/batch.h"
#include "train/checkpoint/checkpoint.h"

namespace toroid::train {

struct DataPosition {
  int64_t sequences = 0;  // taken so far; the position of the next batch
  int64_t tokens = 0;     // of those sequences
  SkipList skips;         // what is left out of them and of those to come

  void take(int64_t count, int64_t tokens_per_sequence) {
    sequences += count;
    tokens += count * tokens_per_sequence;
  }
  // Global index of the sequence that is taken next.
  int64_t next_index() const { return skips.index(sequences); }
};

// Where a run that is to leave out `wanted` goes on from a checkpoint that a run of config `saved` wrote: it
// leaves out what the checkpoint records and whatever `wanted` adds. UserError, naming `origin`, where
// something that it adds begins before the sequence that the checkpoint comes to next.
DataPosition resumed_position(const CheckpointState& state, const config::RunConfig& saved,
                              const SkipList& wanted, const std::string& origin);

// The position, what is left out and which data it is of.
void record(const DataPosition& position, const BatchSource& source, CheckpointState& state);

// Whether the checkpoint went through the same sequences as `source` has; true where it does not say.
bool same_sequences(const CheckpointState& state, const config::RunConfig& saved, const BatchSource& source);

}  // namespace toroid::train
