// A step of SmallRun saved as several ranks save it: each a run of every tensor.
#pragma once

#include <vector>

#include "tests/train/checkpoint/fixture.h"
#include "train/checkpoint/step_writer.h"

namespace toroid {

// What rank `rank` of `world` has of it.
inline std::vector<TensorSlice> slices_of_rank(const SmallRun& saved, int rank, int world) {
  std::vector<TensorSlice> out = saved.slices;
  for (TensorSlice& slice : out) {
    const int64_t first = slice.elements * rank / world, last = slice.elements * (rank + 1) / world;
    slice.offset = first;
    slice.elements = last - first;
    slice.data = slice.data.subspan(static_cast<size_t>(first) * 4, static_cast<size_t>(last - first) * 4);
  }
  return out;
}

inline void save_on_ranks(const Path& run, const SmallRun& saved, int world) {
  const Path temporary = begin_step(run / "checkpoints", saved.state.step);
  std::vector<RankReport> reports;
  for (int rank = 0; rank < world; ++rank) {
    reports.push_back(
        write_rank(temporary, {rank, world}, saved.state.step, slices_of_rank(saved, rank, world)));
  }
  commit_step(temporary, saved.state, reports);
}

}  // namespace toroid
