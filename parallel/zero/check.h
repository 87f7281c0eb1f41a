// ZeRO's own checks of its config.
#pragma once

namespace toroid::config {
class ZeroConfig;
}

namespace toroid::zero {

// Throws UserError with the first value out of bounds.
void check(const config::ZeroConfig& zero);

}  // namespace toroid::zero
