#include "core/device/update_rule.h"

#include "core/base/error.h"

namespace toroid {

void UpdateRule::find_direction(Device&, const StepScalars&, const Tensor&, std::span<const Tensor>,
                                const Tensor&, const UpdateNumerics&) const {
  throw InternalError("a rule that sees matrices whole finds their direction");
}

void UpdateRule::descend(Device&, const StepScalars&, const Tensor&, const Tensor&,
                         const UpdatedTensor&) const {
  throw InternalError("a rule that sees matrices whole descends");
}

}  // namespace toroid
