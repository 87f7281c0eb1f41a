#include "train/ranks/choices.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/range.h"
#include "core/base/text.h"

namespace toroid::train {

Choice choice_of(const config::CollectiveChoice& row, const std::string& path) {
  Choice out;
  const auto* const operation =
      std::find_if(std::begin(schedule::kOperations), std::end(schedule::kOperations),
                   [&](schedule::Operation known) { return schedule::name(known) == row.operation(); });
  if (operation == std::end(schedule::kOperations)) {
    throw UserError(path + ".operation is " + in_quotes(row.operation()) +
                    ", which is no collective; it must be one that `toroid bench collectives` prints");
  }
  const auto method = method_named(row.way());
  if (!method) {
    throw UserError(path + ".way is " + in_quotes(row.way()) +
                    ", which is no way of carrying one out; it must be one that `toroid bench collectives` "
                    "prints");
  }
  check_range(path + ".ranks", row.has_ranks(), row.ranks(), int64_t{2}, int64_t{1} << 20);
  check_range(path + ".ranks_per_host", row.has_ranks_per_host(), row.ranks_per_host(), int64_t{1},
              row.ranks());
  check_range(path + ".up_to_bytes", row.has_up_to_bytes(), row.up_to_bytes(), int64_t{1}, int64_t{1} << 50);
  out.operation = *operation;
  out.ranks = static_cast<int>(row.ranks());
  out.ranks_per_host = static_cast<int>(row.ranks_per_host());
  out.up_to_bytes = row.up_to_bytes();
  out.method = *method;
  return out;
}

std::vector<Choice> choices_of(const config::MeshConfig& mesh) {
  std::vector<Choice> out;
  out.reserve(static_cast<size_t>(mesh.collective_size()));
  for (int i = 0; i < mesh.collective_size(); ++i) {
    out.push_back(choice_of(mesh.collective(i), "mesh.collective[" + std::to_string(i) + "]"));
  }
  return out;
}

std::vector<Choice> agreed_choices(World& world, const config::MeshConfig& mesh) {
  config::MeshConfig rows;
  *rows.mutable_collective() = mesh.collective();
  config::MeshConfig agreed;
  if (!agreed.ParseFromString(
          world.exchange().from_first(rows.SerializeAsString(), "the table of collectives"))) {
    throw InternalError("the table of collectives did not arrive");
  }
  return choices_of(agreed);
}

}  // namespace toroid::train
