#include "optim/lion.h"

#include "core/op/momentum.h"
#include "optim/optim.pb.h"

namespace toroid::optim {
namespace {

class Lion final : public Optimizer {
 public:
  explicit Lion(op::LionSpec spec) : spec_(spec) {}

  std::vector<std::string> states(const UpdatedTensor&) const override { return {"exp_avg"}; }

  void update(Device& device, const StepScalars& scalars, const Tensor& gradient, const Tensor& master,
              std::span<const Tensor> states, const UpdatedTensor& tensor) const override {
    op::LionSpec spec = spec_;
    if (!tensor.decay) spec.weight_decay = 0;
    device.launch(op::lion(gradient, scalars.control, master, states[0], spec));
  }

 private:
  op::LionSpec spec_;
};

}  // namespace

std::unique_ptr<Optimizer> make_lion(const config::OptimConfig& config) {
  const auto& lion = config.lion();
  return std::make_unique<Lion>(op::LionSpec{lion.beta1(), lion.beta2(), lion.weight_decay()});
}

}  // namespace toroid::optim
