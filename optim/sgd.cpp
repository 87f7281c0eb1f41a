#include "optim/sgd.h"

#include "core/op/momentum.h"
#include "optim/optim.pb.h"

namespace toroid::optim {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(op::MomentumSpec momentum, double weight_decay) : momentum_(momentum), weight_decay_(weight_decay) {}

  std::vector<std::string> states(const UpdatedTensor&) const override { return {"momentum_buffer"}; }

  void update(Device& device, const StepScalars& scalars, const Tensor& gradient, const Tensor& master,
              std::span<const Tensor> states, const UpdatedTensor& tensor) const override {
    const Array direction = device.array(DType::f32, gradient.shape, "temporaries");
    device.launch(op::momentum(gradient, scalars.control, states[0], direction.tensor, momentum_));
    device.launch(
        op::descend(direction.tensor, scalars.control, master, {1, tensor.decay ? weight_decay_ : 0}));
  }

 private:
  op::MomentumSpec momentum_;
  double weight_decay_;
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(const config::OptimConfig& config) {
  const auto& sgd = config.sgd();
  return std::make_unique<Sgd>(op::MomentumSpec{sgd.momentum(), 1, sgd.nesterov()}, sgd.weight_decay());
}

}  // namespace toroid::optim
