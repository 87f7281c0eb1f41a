#include "train/ranks/ranks.h"

#include <optional>
#include <span>

#include "core/base/error.h"

namespace toroid::train {

AxisGroups make_groups(World& world, Device& device, const mesh::Mesh& mesh, bool deterministic,
                       std::vector<Choice> choices) {
  if (mesh.world_size() != world.size()) {
    throw UserError("the mesh has " + std::to_string(mesh.world_size()) + " chips, but " +
                    std::to_string(world.size()) + (world.size() == 1 ? " rank was" : " ranks were") +
                    " started; start one rank for each chip with `toroid launch`, or change the mesh");
  }
  GroupOptions options;
  options.deterministic = deterministic;
  options.choices = std::move(choices);
  world.describe(mesh.text(world.rank()));
  const auto make = [&](Queue queue, mesh::Axis axis) {
    const mesh::Group group = mesh.group(world.rank(), axis);
    return world.group(device, queue, std::string(mesh::name(axis)), group.ranks, group.shape, options);
  };
  AxisGroups groups;
  groups.gather = make(Queue::gather, mesh::Axis::data);
  groups.reduce = make(Queue::reduce, mesh::Axis::data);
  groups.model = make(Queue::model, mesh::Axis::model);
  groups.pod = make(Queue::pod, mesh::Axis::pod);
  return groups;
}

void first_rank_alone(World& world, const std::string& what, const std::function<void()>& work) {
  if (world.size() == 1) return work();
  std::optional<Error> own;
  if (world.rank() == 0) {
    try {
      work();
    } catch (const Error& error) {
      own = error;
    }
  }
  const double mine = own ? static_cast<double>(own->code()) : 0;
  const int code = static_cast<int>(world.exchange().numbers(std::span(&mine, 1), what)[0]);
  if (own) throw Error(*own);
  if (code != 0) throw Error(static_cast<ExitCode>(code), "");
}

}  // namespace toroid::train
