#include "optim/adamw.h"

#include "core/op/update.h"
#include "optim/optim.pb.h"

namespace toroid::optim {
namespace {

class AdamW final : public Optimizer {
 public:
  explicit AdamW(op::AdamWSpec spec) : spec_(spec) {}

  std::vector<std::string> states(const UpdatedTensor&) const override { return {"exp_avg", "exp_avg_sq"}; }

  void update(Device& device, const StepScalars& scalars, const Tensor& gradient, const Tensor& master,
              std::span<const Tensor> states, const UpdatedTensor& tensor) const override {
    op::AdamWSpec spec = spec_;
    if (!tensor.decay) spec.weight_decay = 0;
    device.launch(op::adamw(gradient, scalars.state, scalars.control, master, states[0], states[1], spec));
  }

 private:
  op::AdamWSpec spec_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const config::AdamwConfig& adamw, double rate_scale) {
  return std::make_unique<AdamW>(
      op::AdamWSpec{adamw.beta1(), adamw.beta2(), adamw.epsilon(), adamw.weight_decay(), rate_scale});
}

std::unique_ptr<Optimizer> make_adamw(const config::OptimConfig& config) {
  return make_adamw(config.adamw(), 1);
}

}  // namespace toroid::optim
