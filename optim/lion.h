// Lion (Chen et al., "Symbolic discovery of optimization algorithms", 2023): a step of one size for every
// element, in the direction of the sign of an interpolated momentum; half of AdamW's states. Rates and decay
// that suit it are about a tenth and ten times AdamW's.
#pragma once

#include "optim/optimizer.h"

namespace toroid::optim {

std::unique_ptr<Optimizer> make_lion(const config::OptimConfig& config);

}  // namespace toroid::optim
