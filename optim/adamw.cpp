#include "optim/adamw.h"

#include "core/op/update.h"
#include "optim/optim.pb.h"

namespace toroid::optim {
namespace {

class AdamW final : public Optimizer {
 public:
  explicit AdamW(op::AdamWSpec spec) : spec_(spec) {}

  std::vector<std::string> states() const override { return {"exp_avg", "exp_avg_sq"}; }

  void update(Device& device, const StepScalars& scalars, const Tensor& gradient, const Tensor& master,
              std::span<const Tensor> states, bool decay) const override {
    op::AdamWSpec spec = spec_;
    if (!decay) spec.weight_decay = 0;
    Call call = op::adamw(gradient, scalars.state, scalars.control, master, states[0], states[1], spec);
    call.phase = Phase::optimizer;
    device.launch(call);
  }

 private:
  op::AdamWSpec spec_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const config::OptimConfig& config) {
  const auto& adamw = config.adamw();
  return std::make_unique<AdamW>(
      op::AdamWSpec{adamw.beta1(), adamw.beta2(), adamw.epsilon(), adamw.weight_decay()});
}

}  // namespace toroid::optim
