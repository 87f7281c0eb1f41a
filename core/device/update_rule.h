// What an optimizer is to those who hold the weights: the states it keeps for a tensor and the update
// operator it issues. The rules themselves are in optim/. All tensors are f32 and flat.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/device/device.h"

namespace toroid {

// Scalars of the step, on the device (op::State and op::Control).
struct StepScalars {
  Tensor state, control;
};

class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  // Names of the states kept for every element, as checkpoints call them ("exp_avg"); they start at zero.
  virtual std::vector<std::string> states() const = 0;
  // Updates `master` in place from `gradient` (unclipped). `decay`: weight decay applies to this tensor.
  virtual void update(Device& device, const StepScalars& scalars, const Tensor& gradient,
                      const Tensor& master, std::span<const Tensor> states, bool decay) const = 0;
};

}  // namespace toroid
