#include "simulate/play/simulate.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/round_up.h"
#include "simulate/play/chips.h"

namespace toroid::train {
namespace {

std::vector<sim::PlayedChip> every_chip(const Variation& variation, const mesh::Mesh& mesh,
                                        std::span<const SimulatedRole> roles) {
  const auto role_of = [&](const mesh::Coordinate& at) {
    const std::pair ends{at.data == mesh.data() - 1, at.model == mesh.model() - 1};
    for (size_t r = 0; r < roles.size(); ++r) {
      if (std::find(roles[r].ends.begin(), roles[r].ends.end(), ends) != roles[r].ends.end()) return r;
    }
    return size_t{0};
  };
  std::vector<sim::PlayedChip> out;
  for (int rank = 0; rank < mesh.world_size(); ++rank) {
    sim::PlayedChip& chip = out.emplace_back(placed(mesh, rank));
    chip.role = role_of(mesh.coordinate(rank));
    chip.slowness = slowness(variation, rank);
  }
  return out;
}

}  // namespace

int64_t sequences_a_round(const config::RunConfig& run) {
  const int64_t sequences = run.train().deterministic() ? 1 : run.batch().sequences_per_replica();
  return run.mesh().pods() * run.mesh().data() * sequences;
}

int64_t microbatches_of(const config::RunConfig& run) {
  return divide_up(run.batch().global_sequences(), sequences_a_round(run));
}

sim::Schedule schedule_of(const config::RunConfig& run) {
  return run.simulate().has_schedule() ? read_schedule(run.simulate().schedule(), {}) : sim::Schedule{};
}

sim::Network network_of(const config::RunConfig& run, const sim::Chip& chip, const Variation& variation) {
  const mesh::Mesh mesh(run.mesh());
  check(variation, mesh);
  sim::Network network(mesh, chip);
  for (const Variation::LinkFault& fault : variation.faults) {
    const auto dimension = static_cast<size_t>(fault.dimension);
    if (fault.share <= 0 && !network.mesh().torus()[dimension].wraps) {
      throw UserError("--link-fault takes a link away from dimension " + std::to_string(dimension) + " of " +
                      mesh.text() + ", which has no wrap on chip " + chip.name +
                      " and would fall apart; give the link a share of its bandwidth");
    }
    network.weaken(static_cast<int>(fault.dimension), fault.share);
  }
  return network;
}

sim::Played play_step(const config::RunConfig& run, const sim::Chip& chip,
                      std::span<const SimulatedRole> roles, const SimulateOptions& options) {
  sim::Network network = network_of(run, chip, options.variation);
  std::vector<sim::StepRecords> records;
  std::vector<sim::PlayedChip> chips;
  for (size_t r = 0; r < roles.size(); ++r) {
    records.push_back(roles[r].records());
    chips.push_back({r, 1.0, {}});
  }
  if (options.variation.chips_differ()) chips = every_chip(options.variation, network.mesh(), roles);
  return sim::play(chip, network, records, chips, {options.spans, schedule_of(run)});
}

Simulation simulate_recorded(const config::RunConfig& run, const sim::Chip& chip,
                             std::vector<SimulatedRole> roles, const SimulateOptions& options) {
  Simulation out;
  out.roles = std::move(roles);
  out.fullest = fullest(out.roles);
  out.played = play_step(run, chip, out.roles, options);
  return out;
}

Simulation simulate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
                    const SimulateOptions& options) {
  const sim::Network network = network_of(run, chip, options.variation);
  return simulate_recorded(run, chip, record_roles(run, network.mesh(), chip, plugins), options);
}

}  // namespace toroid::train
