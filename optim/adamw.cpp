#include "optim/adamw.h"

#include "core/op/update.h"
#include "optim/optim.pb.h"

namespace toroid::optim {
namespace {

class AdamW final : public Optimizer {
 public:
  AdamW(op::AdamWSpec spec, DType moments) : spec_(spec), moments_(moments) {}

  std::vector<std::string> states(const UpdatedTensor&) const override { return {"exp_avg", "exp_avg_sq"}; }
  DType state_type(const UpdatedTensor&) const override { return moments_; }

  void update(Device& device, const StepScalars& scalars, const Tensor& gradient, const Tensor& master,
              std::span<const Tensor> states, const UpdatedTensor& tensor) const override {
    op::AdamWSpec spec = spec_;
    if (!tensor.decay) spec.weight_decay = 0;
    spec.rounding = tensor.rounding;
    device.launch(op::adamw(gradient, scalars.state, scalars.control, master, states[0], states[1], spec));
  }

 private:
  op::AdamWSpec spec_;
  DType moments_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const config::AdamwConfig& adamw, double rate_scale) {
  return std::make_unique<AdamW>(
      op::AdamWSpec{adamw.beta1(), adamw.beta2(), adamw.epsilon(), adamw.weight_decay(), rate_scale},
      adamw.moments() == config::AdamwConfig::BF16 ? DType::bf16 : DType::f32);
}

std::unique_ptr<Optimizer> make_adamw(const config::OptimConfig& config) {
  return make_adamw(config.adamw(), 1);
}

}  // namespace toroid::optim
