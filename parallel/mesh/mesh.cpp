#include "parallel/mesh/mesh.h"

#include <algorithm>
#include <cstdlib>
#include <tuple>
#include <utility>

#include "core/base/error.h"
#include "parallel/mesh/check.h"
#include "parallel/mesh/mesh.pb.h"
#include "parallel/mesh/placement.h"

namespace toroid::mesh {

std::string_view name(Axis axis) {
  switch (axis) {
    case Axis::data:
      return "data";
    case Axis::model:
      return "model";
    case Axis::pod:
      return "pod";
  }
  return "unknown";
}

Mesh::Mesh(const config::MeshConfig& config) {
  check(config);
  pods_ = static_cast<int>(config.pods());
  data_ = static_cast<int>(config.data());
  model_ = static_cast<int>(config.model());
  const std::vector<int64_t> torus = torus_of(config);
  const std::vector<int64_t> model_parts = model_parts_of(config, torus);
  for (size_t i = 0; i < torus.size(); ++i) {
    Dimension dimension;
    dimension.size = static_cast<int>(torus[i]);
    dimension.model_parts = static_cast<int>(model_parts[i]);
    dimension.data_parts = dimension.size / dimension.model_parts;
    torus_.push_back(dimension);
  }
}

Coordinate Mesh::coordinate(int rank) const {
  require(rank >= 0 && rank < world_size(), "the rank is of the mesh");
  Coordinate at;
  at.pod = rank / pod_size();
  at.torus.resize(torus_.size());
  int rest = rank % pod_size();
  for (size_t i = torus_.size(); i-- > 0;) {
    at.torus[i] = rest % torus_[i].size;
    rest /= torus_[i].size;
  }
  for (size_t i = 0; i < torus_.size(); ++i) {
    at.data = at.data * torus_[i].data_parts + at.torus[i] / torus_[i].model_parts;
    at.model = at.model * torus_[i].model_parts + at.torus[i] % torus_[i].model_parts;
  }
  return at;
}

int Mesh::rank(const Coordinate& coordinate) const {
  require(coordinate.pod >= 0 && coordinate.pod < pods_, "the pod is of the mesh");
  require(coordinate.torus.size() == torus_.size(), "a coordinate has the dimensions of the torus");
  int chip = 0;
  for (size_t i = 0; i < torus_.size(); ++i) {
    require(coordinate.torus[i] >= 0 && coordinate.torus[i] < torus_[i].size, "the chip is of the torus");
    chip = chip * torus_[i].size + coordinate.torus[i];
  }
  return coordinate.pod * pod_size() + chip;
}

int Mesh::rank(int pod, int data, int model) const {
  require(data >= 0 && data < data_ && model >= 0 && model < model_, "the indexes are of the axes");
  Coordinate at;
  at.pod = pod;
  at.torus.resize(torus_.size());
  for (size_t i = torus_.size(); i-- > 0;) {
    const Dimension& dimension = torus_[i];
    at.torus[i] = data % dimension.data_parts * dimension.model_parts + model % dimension.model_parts;
    data /= dimension.data_parts;
    model /= dimension.model_parts;
  }
  return rank(at);
}

RankGroups Mesh::groups(int rank) const {
  return {group(rank, Axis::data), group(rank, Axis::model), group(rank, Axis::pod)};
}

Group Mesh::group(int rank, Axis axis) const {
  const Coordinate at = coordinate(rank);
  Group group;
  group.axis = axis;
  group.shape = shape(axis);
  switch (axis) {
    case Axis::data:
      group.index = at.data;
      for (int i = 0; i < data_; ++i) group.ranks.push_back(this->rank(at.pod, i, at.model));
      break;
    case Axis::model:
      group.index = at.model;
      for (int i = 0; i < model_; ++i) group.ranks.push_back(this->rank(at.pod, at.data, i));
      break;
    case Axis::pod:
      group.index = at.pod;
      for (int i = 0; i < pods_; ++i) group.ranks.push_back(this->rank(i, at.data, at.model));
      break;
  }
  return group;
}

// The data-centre network between pods is a switch: a ring of pods is closed.
schedule::GroupShape Mesh::shape(Axis axis) const {
  if (axis == Axis::pod) return {1, pods_, true, true};
  std::vector<std::pair<int, bool>> parts;  // those with more than one
  for (const Dimension& dimension : torus_) {
    const int size = axis == Axis::data ? dimension.data_parts : dimension.model_parts;
    const int other = dimension.size / size;
    // The innermost part of a dimension is a run of chips, which the links of the dimension do not close.
    const bool run = axis == Axis::model && other > 1;
    if (size > 1) parts.emplace_back(size, dimension.wraps && !run);
  }
  schedule::GroupShape shape;
  shape.neighbours_alone = neighbours_alone_;
  const auto take_last = [&](int& size, bool& wrap) {
    if (parts.empty()) return;
    std::tie(size, wrap) = parts.back();
    parts.pop_back();
  };
  take_last(shape.columns, shape.wrap_columns);
  take_last(shape.rows, shape.wrap_rows);
  take_last(shape.planes, shape.wrap_planes);
  return shape;
}

std::vector<int> Mesh::hops(int from, int to) const {
  const Coordinate a = coordinate(from), b = coordinate(to);
  require(a.pod == b.pod, "links of a torus are within a pod");
  std::vector<int> out(torus_.size());
  for (size_t i = 0; i < torus_.size(); ++i) {
    const int way = std::abs(a.torus[i] - b.torus[i]);
    out[i] = torus_[i].wraps ? std::min(way, torus_[i].size - way) : way;
  }
  return out;
}

std::string Mesh::text() const {
  std::string torus;
  for (const Dimension& dimension : torus_)
    torus += (torus.empty() ? "" : " x ") + std::to_string(dimension.size);
  return "pods " + std::to_string(pods_) + " x torus " + torus + ", data " + std::to_string(data_) +
         ", model " + std::to_string(model_);
}

std::string Mesh::text(int rank) const {
  const Coordinate at = coordinate(rank);
  std::string torus;
  for (const int position : at.torus) torus += " " + std::to_string(position);
  return "rank " + std::to_string(rank) + " (pod " + std::to_string(at.pod) + ", torus" + torus + ", data " +
         std::to_string(at.data) + ", model " + std::to_string(at.model) + ")";
}

}  // namespace toroid::mesh
