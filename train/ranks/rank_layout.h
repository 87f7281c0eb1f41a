// Where the ranks of a world stand in the mesh of a run. That rank i is chip i, and that the mesh has no
// other chips, is known here alone.
#pragma once

#include <string>
#include <vector>

#include "parallel/comm/world.h"
#include "parallel/mesh/mesh.h"
#include "train/ranks/ranks.h"

namespace toroid::train {

class RankLayout {
 public:
  // UserError where the mesh is not of as many chips as the world has ranks.
  RankLayout(mesh::Mesh mesh, const World& world);

  const mesh::Mesh& mesh() const { return mesh_; }
  // The groups of this rank of the same world. `cut`: whether those of the model axis go round by round
  // beside products. `choices`: by which collectives are carried out, the same on all ranks.
  AxisGroups groups(World& world, Device& device, bool deterministic, Cut cut,
                    std::vector<Choice> choices = {}) const;
  std::string text(int rank) const { return mesh_.text(rank); }

 private:
  mesh::Mesh mesh_;
};

}  // namespace toroid::train
