#include "train/simulate/simulate.h"

#include <algorithm>
#include <set>

#include "train/engine.h"

namespace toroid::train {
namespace {

// Products read weights where they lie, and no kernel needs scratch memory.
std::shared_ptr<const KernelRegistry> simulated_kernels() {
  auto kernels = std::make_shared<KernelRegistry>();
  add_reference_kernels(*kernels);
  kernels->set_packs(false);
  return kernels;
}

bool same(const Record& a, const Record& b) {
  return a.kind == b.kind && a.queue == b.queue && a.op == b.op && a.bytes == b.bytes &&
         a.cost.bytes_read == b.cost.bytes_read && a.cost.bytes_written == b.cost.bytes_written &&
         a.cost.flops() == b.cost.flops();
}

bool same(const SimulatedRole& a, const SimulatedRole& b) {
  return a.memory.bytes_peak == b.memory.bytes_peak &&
         std::equal(a.records.begin(), a.records.end(), b.records.begin(), b.records.end(),
                    [](const Record& x, const Record& y) { return same(x, y); });
}

// A computer's ranks have its kernels, with the memory that those take, and read each other's.
SimulatedRole record_role(const config::RunConfig& run, const mesh::Mesh& mesh, int rank,
                          const sim::Chip& chip, const Plugins& plugins) {
  SimulatedRole out;
  out.rank = rank;
  const int size = mesh.world_size();
  auto recorder = std::make_unique<RecordingDevice>(
      chip.measured ? plugins.cpu_kernels(chip.measured->threads) : simulated_kernels());
  RecordingDevice* const device = recorder.get();
  device->keep_records(false);
  device->keep_waits();
  const Engine engine = make_engine(
      run, mesh, chip.measured ? make_recorded_world(rank, size, true) : make_simulated_world(rank, size),
      std::move(recorder), plugins);
  engine.program->initialise(run.train().seed());
  // The first step finds memory as the set-up left it; the second is one of many.
  for (const bool keep : {false, true}) {
    device->keep_records(keep);
    engine.program->upload({}, 0);
    engine.program->step();
  }
  out.records = device->records();
  out.memory = device->statistics();
  return out;
}

}  // namespace

std::vector<SimulatedRole> record_roles(const config::RunConfig& run, const mesh::Mesh& mesh,
                                        const sim::Chip& chip, const Plugins& plugins) {
  // Shards differ at the ends of an axis, where padding is.
  std::set<int> ranks;
  for (const int data : {0, mesh.data() - 1}) {
    for (const int model : {0, mesh.model() - 1}) ranks.insert(mesh.rank(0, data, model));
  }
  std::vector<SimulatedRole> roles;
  for (const int rank : ranks) {
    SimulatedRole role = record_role(run, mesh, rank, chip, plugins);
    const bool known = std::any_of(roles.begin(), roles.end(),
                                   [&](const SimulatedRole& other) { return same(role, other); });
    if (!known) roles.push_back(std::move(role));
  }
  return roles;
}

Simulation simulate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
                    const sim::PlayOptions& options) {
  sim::Network network(mesh::Mesh(run.mesh()), chip);
  Simulation out;
  out.roles = record_roles(run, network.mesh(), chip, plugins);
  std::vector<std::span<const Record>> records;
  std::vector<sim::PlayedChip> chips;
  for (size_t r = 0; r < out.roles.size(); ++r) {
    records.emplace_back(out.roles[r].records);
    chips.push_back({r, 1.0, {}});
    if (out.roles[r].memory.bytes_peak > out.roles[out.fullest].memory.bytes_peak) out.fullest = r;
  }
  out.played = sim::play(chip, network, records, chips, options);
  return out;
}

}  // namespace toroid::train
