#include "train/machine/collective_table.h"

#include <google/protobuf/text_format.h>

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/range.h"
#include "core/base/text.h"
#include "parallel/mesh/mesh.h"
#include "train/config/reader.h"
#include "train/machine/machine_figures.h"
#include "train/ranks/choices.h"

namespace toroid::train {
namespace {

sim::CollectiveTime time_of(const config::CollectiveTiming& row, const std::string& path) {
  config::CollectiveChoice choice;  // names and ranks obey the same rules
  choice.set_operation(row.operation());
  choice.set_way(row.way());
  if (row.has_ranks()) choice.set_ranks(row.ranks());
  if (row.has_ranks_per_host()) choice.set_ranks_per_host(row.ranks_per_host());
  choice.set_up_to_bytes(1);
  const Choice checked = choice_of(choice, path);
  check_range(path + ".bytes", row.has_bytes(), row.bytes(), int64_t{1}, int64_t{1} << 50);
  check_range(path + ".seconds", row.has_seconds(), row.seconds(), 1e-12, 1e6);
  return {row.operation(), row.way(), checked.ranks, row.bytes(), row.seconds()};
}

// It only makes runs faster, so that nothing ends over it: one that cannot be read is as if there were none.
std::optional<config::CollectiveTable> read_optional_table(const Path& path) {
  if (!is_reachable(path)) return std::nullopt;
  try {
    return read_collective_table(path);
  } catch (const Error& error) {
    log::warn("{}; going on without it (`toroid bench collectives --write` makes it anew)", error.what());
    return std::nullopt;
  }
}

}  // namespace

Path collective_table_path() {
  return machine_figures_path().parent_path() / "collectives.textproto";
}

config::CollectiveTable read_collective_table(const Path& path) {
  config::CollectiveTable table;
  config::read_text(read_file(path, config::kLargestFile), path.string(), table);
  for (int i = 0; i < table.collective_size(); ++i) {
    (void)choice_of(table.collective(i),
                    printable(path.string()) + ": collective[" + std::to_string(i) + "]");
  }
  for (int i = 0; i < table.timing_size(); ++i) {
    (void)time_of(table.timing(i), printable(path.string()) + ": timing[" + std::to_string(i) + "]");
  }
  return table;
}

void write_collective_table(const Path& path, const std::vector<Choice>& rows,
                            const std::vector<sim::CollectiveTime>& times, int ranks_per_host) {
  config::CollectiveTable table;
  if (const std::optional<config::CollectiveTable> before = read_optional_table(path)) {
    const auto measured_again = [&](const auto& old) {
      return std::any_of(rows.begin(), rows.end(), [&](const Choice& row) {
        return row.ranks == old.ranks() && row.ranks_per_host == old.ranks_per_host();
      });
    };
    for (const config::CollectiveChoice& old : before->collective()) {
      if (!measured_again(old)) *table.add_collective() = old;
    }
    for (const config::CollectiveTiming& old : before->timing()) {
      if (!measured_again(old)) *table.add_timing() = old;
    }
  }
  for (const Choice& row : rows) {
    config::CollectiveChoice& out = *table.add_collective();
    out.set_operation(std::string(schedule::name(row.operation)));
    out.set_ranks(row.ranks);
    out.set_ranks_per_host(row.ranks_per_host);
    out.set_up_to_bytes(row.up_to_bytes);
    out.set_way(std::string(name(row.method)));
  }
  for (const sim::CollectiveTime& time : times) {
    config::CollectiveTiming& out = *table.add_timing();
    out.set_operation(time.operation);
    out.set_way(time.method);
    out.set_ranks(time.ranks);
    out.set_ranks_per_host(ranks_per_host);
    out.set_bytes(time.bytes);
    out.set_seconds(time.seconds);
  }
  std::string text;
  google::protobuf::TextFormat::PrintToString(table, &text);
  make_directories(path.parent_path());
  write_file(path, "# Measured by `toroid bench collectives --write`.\n" + text);
}

std::vector<sim::CollectiveTime> read_collective_times(const Path& path) {
  std::vector<sim::CollectiveTime> out;
  const std::optional<config::CollectiveTable> table = read_optional_table(path);
  if (!table) return out;
  for (const config::CollectiveTiming& row : table->timing()) {
    if (row.ranks_per_host() == row.ranks()) out.push_back(time_of(row, "timing"));
  }
  return out;
}

void add_collective_table(config::Resolved& resolved, const Path& path) {
  config::MeshConfig& mesh = *resolved.run.mutable_mesh();
  (void)choices_of(mesh);
  if (resolved.run.train().deterministic() || resolved.run.device() == config::RunConfig::CUDA) return;
  const mesh::Mesh layout(mesh);
  std::set<int64_t> sizes{layout.data(), layout.model(), layout.pods(), layout.world_size()};
  // Rows that are there stay. A stored config that goes on under another layout has none of its sizes.
  for (const config::CollectiveChoice& row : mesh.collective()) sizes.erase(row.ranks());
  if (layout.world_size() == 1 || sizes.empty()) return;
  const std::optional<config::CollectiveTable> table = read_optional_table(path);
  if (!table) return;
  for (const config::CollectiveChoice& row : table->collective()) {
    if (!sizes.contains(row.ranks())) continue;
    const std::string here = "mesh.collective[" + std::to_string(mesh.collective_size()) + "]";
    *mesh.add_collective() = row;
    for (const char* field : {"operation", "ranks", "ranks_per_host", "up_to_bytes", "way"}) {
      resolved.origins[here + "." + field] = path.string();
    }
  }
}

}  // namespace toroid::train
