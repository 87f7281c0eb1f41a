// How the axes lie on the torus: the rules behind a Mesh, over plain numbers.
#pragma once

#include <cstdint>
#include <vector>

namespace toroid::config {
class MeshConfig;
}

namespace toroid::mesh {

// Chips along each dimension of a pod, at least one: those of the config. Where it leaves them out, a
// dimension for each axis if both have more than one chip and at most 16; else two dimensions as near to a
// square as the model axis allows, rows <= columns where it has the choice. The config's values are in
// bounds.
std::vector<int64_t> torus_of(const config::MeshConfig& config);

// How many parts of each dimension belong to the model axis; the data axis has the rest. Without a placement
// the model axis takes whole dimensions from the last one on while it has chips for them, and of the next one
// a part that divides it. UserError where that fails, or where the placement's product is not the axis.
std::vector<int64_t> model_parts_of(const config::MeshConfig& config, const std::vector<int64_t>& torus);

}  // namespace toroid::mesh
