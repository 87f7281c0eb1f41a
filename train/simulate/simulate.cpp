#include "train/simulate/simulate.h"

#include <algorithm>
#include <set>

#include "core/base/error.h"
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

// An allocation belongs to the phase of the next operator.
std::map<Phase, int64_t> peaks(const std::vector<Record>& records, int64_t bytes) {
  std::map<Phase, int64_t> out;
  int64_t most = bytes;
  for (const Record& record : records) {
    if (record.kind == Record::Kind::allocate) bytes += record.bytes;
    if (record.kind == Record::Kind::free) bytes -= record.bytes;
    most = std::max(most, bytes);
    if (record.kind != Record::Kind::launch) continue;
    int64_t& peak = out[record.phase];
    peak = std::max(peak, most);
    most = bytes;
  }
  return out;
}

// A step's records grow with its microbatches and layers, about 90 kB for one of each on every kind of chip.
void check_length(const config::RunConfig& run) {
  constexpr int64_t kMost = 12'000;
  const int64_t sequences = run.train().deterministic() ? 1 : run.batch().sequences_per_replica();
  const int64_t round = run.mesh().pods() * run.mesh().data() * sequences;
  const int64_t microbatches = (run.batch().global_sequences() + round - 1) / round;
  if (microbatches <= kMost / (run.model().layers() + 2)) return;
  throw UserError("a step of " + std::to_string(microbatches) + " microbatches and " +
                  std::to_string(run.model().layers()) +
                  " layers is too long to simulate; choose more batch.sequences_per_replica or fewer "
                  "batch.global_sequences, so that microbatches x (layers + 2) is at most " +
                  std::to_string(kMost));
}

SimulatedRole record_role(const config::RunConfig& run, const mesh::Mesh& mesh, int rank,
                          const Plugins& plugins) {
  SimulatedRole out;
  out.rank = rank;
  auto recorder = std::make_unique<RecordingDevice>(simulated_kernels());
  RecordingDevice* const device = recorder.get();
  device->keep_records(false);
  device->keep_waits();
  const Engine engine =
      make_engine(run, mesh, make_simulated_world(rank, mesh.world_size()), std::move(recorder), plugins);
  engine.program->initialise(run.train().seed());
  out.microbatches = engine.program->microbatches();
  // The first step finds memory as the set-up left it; the second is one of many.
  int64_t before = 0;
  for (const bool keep : {false, true}) {
    before = device->statistics().bytes_now;
    device->keep_records(keep);
    engine.program->upload({}, 0);
    engine.program->step();
  }
  out.records = device->records();
  out.memory = device->statistics();
  out.peak_by_phase = peaks(out.records, before);
  return out;
}

}  // namespace

std::vector<SimulatedRole> record_roles(const config::RunConfig& run, const mesh::Mesh& mesh,
                                        const Plugins& plugins) {
  check_length(run);
  // Shards differ at the ends of an axis, where padding is.
  std::set<int> ranks;
  for (const int data : {0, mesh.data() - 1}) {
    for (const int model : {0, mesh.model() - 1}) ranks.insert(mesh.rank(0, data, model));
  }
  std::vector<SimulatedRole> roles;
  for (const int rank : ranks) {
    SimulatedRole role = record_role(run, mesh, rank, plugins);
    const bool known = std::any_of(roles.begin(), roles.end(),
                                   [&](const SimulatedRole& other) { return same(role, other); });
    if (!known) roles.push_back(std::move(role));
  }
  return roles;
}

Simulation simulate_recorded(const config::RunConfig& run, const sim::Chip& chip,
                             std::vector<SimulatedRole> roles, const sim::PlayOptions& options) {
  sim::Network network(mesh::Mesh(run.mesh()), chip);
  Simulation out;
  out.roles = std::move(roles);
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

Simulation simulate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
                    const sim::PlayOptions& options) {
  const sim::Network network(mesh::Mesh(run.mesh()), chip);
  return simulate_recorded(run, chip, record_roles(run, network.mesh(), plugins), options);
}

}  // namespace toroid::train
