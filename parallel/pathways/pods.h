// What a rank asks of the other pods: of its twins, the chips at its place in them. A step gives each shard
// of its gradients once, takes what the shard is to be updated from, and learns whether the step counts. How
// many pods take part, by which transport, and what is kept for another try are the implementation's own
// affairs: who took part is never an operand, so that neither batch, rate, norm nor verdict can depend on it.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "core/comm/communicator.h"
#include "core/device/device.h"
#include "parallel/pathways/options.h"

namespace toroid::pathways {

// What an implementation keeps of a shard from step to step, for checkpoints.
struct KeptPart {
  std::string_view part;  // "outer_momentum"
  Tensor values;          // f32[elements]
  bool own = false;       // each pod has values of its own
  bool differs = false;   // from what a checkpoint has anyway: the masters, or zeros
};

class Pods {
 public:
  virtual ~Pods() = default;

  // The masters are what all pods share from here on, and nothing is carried on from before.
  virtual void begin(std::span<const Tensor> masters) = 0;

  // In a step, in this order: start() once for each shard, as its gradient is complete, in the same order on
  // all twins; finish() once for each; go(); and commit() behind the update.
  virtual void start(size_t shard, Array gradient, Phase phase) = 0;
  // What the shard is updated from, f32[elements].
  virtual Array finish(size_t shard) = 0;
  // The last act before the verdict: f32[1], an operand of `decide`, the same on all ranks of a pod. 1: the
  // step counts. 0: it is as if it had not been issued, and every step that was issued behind it finds a 0 as
  // well, until the step is issued again.
  virtual Tensor go() = 0;
  // Keeps what the exchange has left, where control[op::apply] is 1. True where the pods are to meet now.
  virtual bool commit(const Tensor& control) = 0;

  // Pods that have trained apart agree on their masters again.
  virtual void meet(std::span<const Tensor> masters) = 0;
  // Whether pods train apart: each on the gradients of its own sequences.
  virtual bool apart() const = 0;
  // Steps since the pods' masters were the same, counted as they are issued; checkpointed.
  virtual int64_t steps_apart() const = 0;
  virtual void set_steps_apart(int64_t steps) = 0;

  // The rows of all pods, in the order of the pods: losses and norms.
  virtual Array gather(Array own, const CollectiveLabel& label) = 0;
  // Written in begin(), commit() and meet() alone, so that what else changes it is found to be a fault.
  virtual std::vector<KeptPart> kept(size_t shard) const = 0;
};

// Makes a rank's; `pod` are its twins, and its shards never change.
using MakePods = std::function<std::unique_ptr<Pods>(Device& device, Communicator& pod,
                                                     const Options& options, std::vector<Shard> shards)>;

}  // namespace toroid::pathways
