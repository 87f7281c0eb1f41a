// The mesh: which chip a rank is, and whom it communicates with on each axis.
//
// Ranks number the pods one after the other, and the chips of a pod row by row (the last dimension of the
// torus counts fastest), so that ranks of one host are neighbours on the torus and in one pod. Each dimension
// of the torus is data_parts x model_parts, with the model part innermost; an axis' index counts its parts,
// the last dimension fastest.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "parallel/schedule/schedule.h"

namespace toroid::config {
class MeshConfig;
}

namespace toroid::mesh {

enum class Axis : uint8_t { data, model, pod };
inline constexpr std::array<Axis, 3> kAxes = {Axis::data, Axis::model, Axis::pod};
std::string_view name(Axis axis);

struct Coordinate {
  int pod = 0;
  std::vector<int> torus;   // one for each dimension
  int data = 0, model = 0;  // indexes on the axes
  bool operator==(const Coordinate&) const = default;
};

// The ranks that share all but their index on one axis, in the order of that index.
struct Group {
  Axis axis = Axis::data;
  std::vector<int> ranks;
  int index = 0;  // of the rank that was asked about: its place in `ranks`
  schedule::GroupShape shape;
};

struct RankGroups {
  Group data, model, pod;
};

class Mesh {
 public:
  // One dimension of the torus.
  struct Dimension {
    int size = 1;
    int data_parts = 1, model_parts = 1;  // size = data_parts x model_parts
    bool wraps = true;                    // whether links close the ring; a chip's topology may say no
  };

  // UserError with the relation that failed where axes and torus do not fit.
  explicit Mesh(const config::MeshConfig& config);

  int pods() const { return pods_; }
  const std::vector<Dimension>& torus() const { return torus_; }
  int data() const { return data_; }
  int model() const { return model_; }
  int pod_size() const { return data_ * model_; }
  int world_size() const { return pods_ * pod_size(); }

  Coordinate coordinate(int rank) const;
  int rank(const Coordinate& coordinate) const;  // from pod and torus; data and model follow from them
  int rank(int pod, int data, int model) const;

  RankGroups groups(int rank) const;
  Group group(int rank, Axis axis) const;
  schedule::GroupShape shape(Axis axis) const;  // the same for every group of the axis
  // Links that a message between two ranks of one pod takes along each dimension of the torus, the shortest
  // way.
  std::vector<int> hops(int from, int to) const;
  void set_wraps(int dimension, bool wraps) { torus_.at(static_cast<size_t>(dimension)).wraps = wraps; }
  // GroupShape's, of groups within a pod.
  void set_neighbours_alone() { neighbours_alone_ = true; }

  // "pods 2 x torus 4 x 4, data 8, model 2"
  std::string text() const;
  // "rank 5 (pod 0, torus 1 1, data 2, model 1)"
  std::string text(int rank) const;

 private:
  int pods_ = 1, data_ = 1, model_ = 1;
  std::vector<Dimension> torus_;
  bool neighbours_alone_ = false;
};

}  // namespace toroid::mesh
