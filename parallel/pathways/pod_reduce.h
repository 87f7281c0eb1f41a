// Sums over a rank's twins, the chips at its place in the other pods: each chip sends its own shard of a unit
// and no more. A wire narrower than fp32 carries errors forward (core/op/wire.h):
//   fp32        all_reduce in place, in the order of the pods (GroupOptions::sums_in_order)
//   bf16, int8  every twin's wire is gathered and each twin adds them up in fp32 in the order of the pods, so
//               that all have the same bits; what a wire rounds away waits in a residual for the next sum
// Small shards travel together. In a group of one nothing travels, and nothing is rounded.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "core/comm/communicator.h"
#include "core/device/device.h"
#include "parallel/pathways/options.h"

namespace toroid::pathways {

class PodReduce {
 public:
  // `what` names the sums in reports: "gradients".
  PodReduce(Device& device, Communicator& pod, PodWire wire, std::vector<Shard> shards, std::string what);

  // Forgets what was rounded away.
  void clear();
  // Sends the values f32[elements] of shard `s` on their way, on the pods' queue. All twins start the same
  // shards in the same order.
  void start(size_t s, Array values, Phase phase);
  // The sum of what was started.
  Array finish(size_t s);
  // Keeps what the sums since the last call rounded away: where control[op::apply] is 1, or in any case
  // without `control`. A step that is skipped so leaves the residuals as they were.
  void keep_rest(const Tensor& control = {});

  bool compresses() const { return wire_ != PodWire::fp32; }
  const Array& residual(size_t s) const { return residuals_[s]; }  // where it compresses

 private:
  struct Bucket {  // shards that travel together
    std::vector<size_t> shards;
    Array moved;  // their fp32 values, of several; or the gathered wires
  };
  int64_t wire_size(int64_t elements) const;  // in elements of the wire's type
  void send(std::vector<size_t> shards, Phase phase);
  void settle();  // takes the oldest bucket apart

  Device& device_;
  Communicator& pod_;
  PodWire wire_;
  std::vector<Shard> shards_;
  std::string what_;
  std::vector<Array> values_;  // as started, then what is left of them; fp32: then the sum
  std::vector<Array> sums_, residuals_;
  std::vector<size_t> small_;  // started, waiting for others
  std::deque<Bucket> sent_;
};

}  // namespace toroid::pathways
