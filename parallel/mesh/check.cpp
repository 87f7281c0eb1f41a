#include "parallel/mesh/check.h"

#include <cstdint>
#include <string>

#include "core/base/error.h"
#include "core/base/range.h"
#include "parallel/mesh/mesh.pb.h"
#include "parallel/mesh/placement.h"

namespace toroid::mesh {

void check(const config::MeshConfig& mesh) {
  constexpr int64_t kMost = 1 << 20;  // chips along any axis, and in all
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
  if (mesh.torus_size() > 0 && chips != mesh.data() * mesh.model()) {
    throw UserError("mesh.data (" + std::to_string(mesh.data()) + ") x mesh.model (" +
                    std::to_string(mesh.model()) + ") is not the number of chips of mesh.torus (" + product +
                    ")");
  }
  // Compared by division: the product of three can pass 2^63 only beyond this bound.
  const int64_t pod = mesh.data() * mesh.model();
  if (pod > kMost / mesh.pods()) {
    throw UserError("mesh.pods (" + std::to_string(mesh.pods()) + ") x mesh.data (" +
                    std::to_string(mesh.data()) + ") x mesh.model (" + std::to_string(mesh.model()) +
                    ") is more than " + std::to_string(kMost) + " ranks");
  }
  model_parts_of(mesh, torus_of(mesh));
}

}  // namespace toroid::mesh
