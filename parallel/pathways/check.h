// The pathways layer's own checks of its config.
#pragma once

namespace toroid::config {
class PathwaysConfig;
}

namespace toroid::pathways {

// Throws UserError with the first value out of bounds or the first relation that fails.
void check(const config::PathwaysConfig& pathways);

}  // namespace toroid::pathways
