#include "train/ranks/rank_layout.h"

#include <utility>

#include "core/base/error.h"

namespace toroid::train {

RankLayout::RankLayout(mesh::Mesh mesh, const World& world) : mesh_(std::move(mesh)) {
  if (mesh_.world_size() == world.size()) return;
  throw UserError("the mesh has " + std::to_string(mesh_.world_size()) + " chips, but " +
                  std::to_string(world.size()) + (world.size() == 1 ? " rank was" : " ranks were") +
                  " started; start one rank for each chip with `toroid launch`, or change the mesh");
}

AxisGroups RankLayout::groups(World& world, Device& device, bool deterministic, Cut cut,
                              std::vector<Choice> choices) const {
  GroupOptions options;
  options.deterministic = deterministic;
  options.choices = std::move(choices);
  world.describe(text(world.rank()));
  const auto make = [&](Queue queue, mesh::Axis axis) {
    const mesh::Group group = mesh_.group(world.rank(), axis);
    return world.group(device, queue, std::string(mesh::name(axis)), group.ranks, group.shape, options);
  };
  AxisGroups groups;
  groups.gather = make(Queue::gather, mesh::Axis::data);
  groups.reduce = make(Queue::reduce, mesh::Axis::data);
  options.cut = cut;
  groups.model = make(Queue::model, mesh::Axis::model);
  options.cut = Cut::never;
  options.sums_in_order = true;  // another transport between pods can then have the same bits
  groups.pod = make(Queue::pod, mesh::Axis::pod);
  return groups;
}

}  // namespace toroid::train
