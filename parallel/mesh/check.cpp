#include "parallel/mesh/check.h"

#include <cstdint>
#include <string>

#include "core/base/error.h"
#include "core/base/range.h"
#include "parallel/mesh/mesh.pb.h"

namespace toroid::mesh {

void check(const config::MeshConfig& mesh) {
  constexpr int64_t kMost = 1 << 20;  // chips along any axis
  check_range("mesh.pods", mesh.pods(), 1, kMost);
  check_range("mesh.data", mesh.data(), 1, kMost);
  check_range("mesh.model", mesh.model(), 1, kMost);
  if (mesh.torus_size() > 3) {
    throw UserError("mesh.torus has " + std::to_string(mesh.torus_size()) +
                    " dimensions; at most 3 are known");
  }
  int64_t chips = 1;  // 2^60 at most
  std::string product;
  for (int i = 0; i < mesh.torus_size(); ++i) {
    check_range("mesh.torus[" + std::to_string(i) + "]", mesh.torus(i), 1, kMost);
    chips *= mesh.torus(i);
    product += (i > 0 ? " x " : "") + std::to_string(mesh.torus(i));
  }
  if (chips != mesh.data() * mesh.model()) {
    throw UserError("mesh.data (" + std::to_string(mesh.data()) + ") x mesh.model (" +
                    std::to_string(mesh.model()) + ") is not the number of chips of mesh.torus (" +
                    (product.empty() ? "1" : product) + ")");
  }
  if (mesh.pods() > 1 || chips > 1) {
    throw UserError("mesh has " + std::to_string(mesh.pods()) + " pods of " + std::to_string(chips) +
                    " chips; this version runs on one chip, so leave the mesh out");
  }
}

}  // namespace toroid::mesh
