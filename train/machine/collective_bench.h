// Times every way of carrying out a collective, side by side: `toroid bench collectives`.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/device/sim/host.h"
#include "parallel/comm/choice.h"
#include "parallel/comm/world.h"
#include "parallel/schedule/schedule.h"
#include "train/engine/plugins.h"

namespace toroid::train {

// From this size of an array on, what bounds a collective within a host is main memory.
inline constexpr int64_t kBoundFrom = int64_t{16} << 20;

struct CollectiveBenchOptions {
  schedule::GroupShape shape;
  std::vector<int64_t> sizes;  // bytes of the whole array: gathered, or before scattering
  int rounds = 5;              // in each of which all ways take turns
};

struct MethodTime {
  Method method = Method::By::read;
  double median_s = 0;  // over the rounds, of the slowest rank
};

struct CollectiveRow {
  schedule::Operation operation = schedule::Operation::all_gather;
  int64_t bytes = 0;
  std::vector<MethodTime> times;  // of those that serve the group; none on GPUs, whose library does all
  double library_s = 0;           // the library's own, called directly; 0: there is none
  // Bytes/s that all ranks read and write when each copies memory of its own, and when each adds as many
  // arrays as there are ranks: medians over the rounds, in each of which they take their turn like a way.
  // 0: not measured, below kBoundFrom or on several hosts; no sums, where the operation has none or ranks are
  // not 2, 4 or 8.
  double copy_rate = 0, sum_rate = 0;
  const MethodTime& best() const;  // of `times`, which are some
};

struct CollectiveBench {
  int rank = 0, ranks = 1, ranks_per_host = 1;  // 0: hosts have different numbers
  bool on_gpus = false;                         // then the library is NCCL, and otherwise MPI
  std::vector<CollectiveRow> rows;              // by operation, then size
  // What an algorithm in shared memory reads and writes at least, over the rates of the same rounds: what is
  // summed at that of sums (that of copies where there is none), the rest at that of copies. 0: not measured.
  double bound_s(const CollectiveRow& row) const;
  // The best way of each row.
  std::vector<Choice> winners() const;
  // All ways of all rows.
  std::vector<sim::CollectiveTime> times() const;
};

// As one of the ranks of `world`, as many as the shape has, each on a device of its own. Arrays are fp32; all
// of a rank's memory has been touched before anything is timed.
CollectiveBench bench_collectives(const CollectiveBenchOptions& options, const DeviceMaker& maker,
                                  std::unique_ptr<World> world);
// As one of those that were launched.
CollectiveBench bench_collectives(const CollectiveBenchOptions& options, const DeviceMaker& maker);

}  // namespace toroid::train
