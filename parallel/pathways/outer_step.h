// DiLoCo (Douillard et al. 2023): pods train apart for H steps, each with its own inner optimizer, and then
// make one step together on the weights that they shared last (core/op/outer.h). A rank holds its shard of
// those weights and of the outer momentum, as it does of the masters; twins hold the same bits.
#pragma once

#include <span>
#include <vector>

#include "core/op/outer.h"
#include "parallel/pathways/pod_reduce.h"

namespace toroid::pathways {

class OuterStep {
 public:
  OuterStep(Device& device, Communicator& pod, const Options& options, const std::vector<Shard>& shards);

  // The masters are what the pods share from here on, with no momentum and no residual.
  void begin(std::span<const Tensor> masters);
  // Counts an inner step; true where an outer one is due after it.
  bool due() { return ++apart_ >= options_.every_steps; }
  // Inner steps since the pods' weights were the same, checkpointed.
  int64_t apart() const { return apart_; }
  void set_apart(int64_t steps) { apart_ = steps; }
  // The outer step: `masters` become the pods' new common weights.
  void step(std::span<const Tensor> masters);

  const Array& shared(size_t s) const { return shared_[s]; }
  const Array& momentum(size_t s) const { return momentum_[s]; }
  const PodReduce& reduce() const { return reduce_; }

 private:
  Device& device_;
  Options options_;
  int64_t pods_;
  PodReduce reduce_;
  std::vector<Array> shared_, momentum_;
  int64_t apart_ = 0;
};

}  // namespace toroid::pathways
