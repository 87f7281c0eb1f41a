#include "parallel/pathways/outer_step.h"

#include "core/op/elementwise.h"

namespace toroid::pathways {

OuterStep::OuterStep(Device& device, Communicator& pod, const Options& options,
                     const std::vector<Shard>& shards)
    : device_(device),
      options_(options),
      pods_(pod.place().size),
      reduce_(device, pod, options.wire, shards, "outer gradients") {
  for (const Shard& shard : shards) {
    shared_.push_back(device_.array(DType::f32, {shard.elements}, "outer weights"));
    momentum_.push_back(device_.array(DType::f32, {shard.elements}, "outer momentum"));
  }
}

void OuterStep::begin(std::span<const Tensor> masters) {
  for (size_t s = 0; s < masters.size(); ++s) {
    device_.copy(shared_[s].tensor, masters[s]);
    Call call = op::fill(momentum_[s].tensor, {0});
    call.phase = Phase::setup;
    device_.launch(call);
  }
  reduce_.clear();
  apart_ = 0;
}

void OuterStep::step(std::span<const Tensor> masters) {
  for (size_t s = 0; s < masters.size(); ++s) {
    Array gradient = device_.array(DType::f32, masters[s].shape, "gradients");
    device_.launch(op::outer_gradient(shared_[s].tensor, masters[s], gradient.tensor));
    reduce_.start(s, std::move(gradient), Phase::optimizer);
  }
  for (size_t s = 0; s < masters.size(); ++s) {
    const Array sum = reduce_.finish(s);
    device_.launch(op::nesterov(sum.tensor, shared_[s].tensor, momentum_[s].tensor, masters[s],
                                {options_.learning_rate, options_.momentum, pods_}));
  }
  reduce_.keep_rest();
  apart_ = 0;
}

}  // namespace toroid::pathways
