// The mesh's own checks of its config.
#pragma once

namespace toroid::config {
class MeshConfig;
}

namespace toroid::mesh {

// Throws UserError with the first value out of bounds or the first relation that fails.
void check(const config::MeshConfig& mesh);

}  // namespace toroid::mesh
