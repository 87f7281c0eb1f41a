// A step of SmallRun saved as several ranks save it: each a run of every tensor.
#pragma once

#include <vector>

#include "tests/train/checkpoint/fixture.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {

inline void save_on_ranks(const Path& run, const SmallRun& saved, int world) {
  const Path temporary = begin_step(run / "checkpoints", saved.state.step);
  std::vector<RankReport> reports;
  for (int rank = 0; rank < world; ++rank) {
    std::vector<TensorSlice> mine;
    for (TensorSlice slice : saved.slices) {
      const int64_t first = slice.elements * rank / world, last = slice.elements * (rank + 1) / world;
      slice.offset = first;
      slice.elements = last - first;
      slice.data = slice.data.subspan(static_cast<size_t>(first) * 4, static_cast<size_t>(last - first) * 4);
      mine.push_back(slice);
    }
    reports.push_back(write_rank(temporary, {rank, world}, saved.state.step, mine));
  }
  commit_step(temporary, saved.state, reports);
}

}  // namespace toroid
