#include "parallel/pathways/in_world.h"

#include <utility>

#include "core/op/elementwise.h"
#include "parallel/pathways/outer_step.h"
#include "parallel/pathways/pod_reduce.h"

namespace toroid::pathways {
namespace {

class InWorldPods : public Pods {
 public:
  InWorldPods(Device& device, Communicator& pod) : pod_(pod), go_(device.array(DType::f32, {1}, "batch")) {
    Call call = op::fill(go_.tensor, {1});
    call.phase = Phase::setup;
    device.launch(call);
  }
  Tensor go() final { return go_.tensor; }
  Array gather(Array own, const CollectiveLabel& label) final {
    return pod_.all_gather(std::move(own), label);
  }

 private:
  Communicator& pod_;
  Array go_;
};

void add_residual(const PodReduce& reduce, size_t shard, std::vector<KeptPart>& parts) {
  if (reduce.compresses()) parts.push_back({"pod_residual", reduce.residual(shard).tensor, true, true});
}

// Gradients are summed in every step.
class SummedGradients final : public InWorldPods {
 public:
  SummedGradients(Device& device, Communicator& pod, const Options& options, std::vector<Shard> shards)
      : InWorldPods(device, pod), reduce_(device, pod, options.wire, std::move(shards), "gradients") {}

  void begin(std::span<const Tensor>) override { reduce_.clear(); }
  void start(size_t shard, Array gradient, Phase phase) override {
    reduce_.start(shard, std::move(gradient), phase);
  }
  Array finish(size_t shard) override { return reduce_.finish(shard); }
  bool commit(const Tensor& control) override {
    reduce_.keep_rest(control);
    return false;
  }
  void meet(std::span<const Tensor>) override {}
  bool apart() const override { return false; }
  int64_t steps_apart() const override { return 0; }
  void set_steps_apart(int64_t) override {}
  std::vector<KeptPart> kept(size_t shard) const override {
    std::vector<KeptPart> parts;
    add_residual(reduce_, shard, parts);
    return parts;
  }

 private:
  PodReduce reduce_;
};

// Each pod is updated from its own gradients; every so many steps an outer step follows.
class TrainedApart final : public InWorldPods {
 public:
  TrainedApart(Device& device, Communicator& pod, const Options& options, const std::vector<Shard>& shards)
      : InWorldPods(device, pod), outer_(device, pod, options, shards), gradients_(shards.size()) {}

  void begin(std::span<const Tensor> masters) override { outer_.begin(masters); }
  void start(size_t shard, Array gradient, Phase) override { gradients_[shard] = std::move(gradient); }
  Array finish(size_t shard) override { return std::move(gradients_[shard]); }
  bool commit(const Tensor&) override { return outer_.due(); }
  void meet(std::span<const Tensor> masters) override { outer_.step(masters); }
  bool apart() const override { return true; }
  int64_t steps_apart() const override { return outer_.apart(); }
  void set_steps_apart(int64_t steps) override { outer_.set_apart(steps); }
  std::vector<KeptPart> kept(size_t shard) const override {
    std::vector<KeptPart> parts;
    parts.push_back({"outer_master", outer_.shared(shard).tensor, false, steps_apart() > 0});
    parts.push_back({"outer_momentum", outer_.momentum(shard).tensor, false, true});
    add_residual(outer_.reduce(), shard, parts);
    return parts;
  }

 private:
  OuterStep outer_;
  std::vector<Array> gradients_;
};

}  // namespace

std::unique_ptr<Pods> make_in_world_pods(Device& device, Communicator& pod, const Options& options,
                                         std::vector<Shard> shards) {
  if (options.outer) return std::make_unique<TrainedApart>(device, pod, options, shards);
  return std::make_unique<SummedGradients>(device, pod, options, std::move(shards));
}

}  // namespace toroid::pathways
