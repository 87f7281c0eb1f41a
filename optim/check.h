// The optimizer's own checks of its config.
#pragma once

namespace toroid::config {
class OptimConfig;
}

namespace toroid::optim {

// Throws UserError with the first value out of bounds or the first relation that fails. Names of custom rules
// and schedules are checked where their registries are.
void check(const config::OptimConfig& optim);

}  // namespace toroid::optim
