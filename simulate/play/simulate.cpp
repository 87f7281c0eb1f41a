#include "simulate/play/simulate.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/round_up.h"
#include "simulate/play/chips.h"
#include "train/engine/engine.h"
#include "train/ranks/bf16_products.h"

namespace toroid::train {
namespace {

// Products read weights where they lie, and no kernel needs scratch memory.
std::shared_ptr<const DeviceKernels> simulated_kernels() {
  auto kernels = std::make_shared<DeviceKernels>();
  add_reference_kernels(*kernels);
  kernels->traits.packs = false;
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
  const int64_t microbatches = microbatches_of(run);
  if (microbatches <= kMost / (run.model().layers() + 2)) return;
  throw UserError("a step of " + std::to_string(microbatches) + " microbatches and " +
                  std::to_string(run.model().layers()) +
                  " layers is too long to simulate; choose more batch.sequences_per_replica or fewer "
                  "batch.global_sequences, so that microbatches x (layers + 2) is at most " +
                  std::to_string(kMost));
}

// A computer's ranks have its kernels, with the memory that those take, and read each other's.
SimulatedRole record_role(const config::RunConfig& run, const mesh::Mesh& mesh, int rank,
                          const sim::Chip& chip, const Plugins& plugins, bool first_step) {
  SimulatedRole out;
  out.rank = rank;
  const int size = mesh.world_size();
  auto recorder = std::make_unique<RecordingDevice>(
      chip.measured ? plugins.cpu().kernels(chip.measured->threads, bf16_products(run.train()))
                    : simulated_kernels());
  RecordingDevice* const device = recorder.get();
  device->keep_records(false);
  device->keep_waits();
  if (!chip.measured) device->place_memory();
  const Engine engine = make_engine(
      run, mesh, chip.measured ? make_recorded_world(rank, size, true) : make_simulated_world(rank, size),
      std::move(recorder), plugins);
  engine.program->initialise(run.train().seed());
  out.microbatches = engine.program->microbatches();
  size_t of_a_step = 0;
  if (!first_step) {
    const size_t calls = device->calls();
    engine.program->upload({}, 0);
    engine.program->step();
    of_a_step = device->calls() - calls;
  }
  const int64_t before = device->statistics().bytes_now;
  device->keep_records(true, of_a_step);
  engine.program->upload({}, 0);
  engine.program->step();
  device->keep_records(false);
  out.records = device->take_records();
  out.memory = device->statistics();
  out.placed_bytes = chip.measured ? out.memory.bytes_peak : device->take_placed_peak();
  out.peak_by_phase = peaks(out.records, before);
  return out;
}

std::vector<sim::PlayedChip> every_chip(const Variation& variation, const mesh::Mesh& mesh,
                                        const std::vector<SimulatedRole>& roles) {
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

std::vector<SimulatedRole> record_roles(const config::RunConfig& run, const mesh::Mesh& mesh,
                                        const sim::Chip& chip, const Plugins& plugins,
                                        const RecordOptions& options) {
  check_length(run);
  if (schedule_of(run).within_pod == sim::Schedule::Beside::nothing &&
      run.mesh().overlap() != config::MeshConfig::OFF) {
    config::RunConfig whole = run;  // what goes beside nothing is not cut into rounds that would
    whole.mutable_mesh()->set_overlap(config::MeshConfig::OFF);
    return record_roles(whole, mesh, chip, plugins, options);
  }
  // Shards differ at the ends of an axis, where padding is.
  std::vector<SimulatedRole> roles;
  for (const bool data_ends : {false, true}) {
    for (const bool model_ends : {false, true}) {
      const int rank = mesh.rank(0, data_ends && !options.first_alone ? mesh.data() - 1 : 0,
                                 model_ends && !options.first_alone ? mesh.model() - 1 : 0);
      const auto recorded = std::find_if(roles.begin(), roles.end(),
                                         [&](const SimulatedRole& role) { return role.rank == rank; });
      if (recorded != roles.end()) {
        recorded->ends.emplace_back(data_ends, model_ends);
        continue;
      }
      SimulatedRole role = record_role(run, mesh, rank, chip, plugins, options.first_step);
      const auto known = std::find_if(roles.begin(), roles.end(),
                                      [&](const SimulatedRole& other) { return same(role, other); });
      SimulatedRole& kept = known == roles.end() ? roles.emplace_back(std::move(role)) : *known;
      kept.ends.emplace_back(data_ends, model_ends);
    }
  }
  return roles;
}

sim::Played play_step(const config::RunConfig& run, const sim::Chip& chip,
                      const std::vector<SimulatedRole>& roles, const SimulateOptions& options) {
  sim::Network network = network_of(run, chip, options.variation);
  std::vector<std::span<const Record>> records;
  std::vector<sim::PlayedChip> chips;
  for (size_t r = 0; r < roles.size(); ++r) {
    records.emplace_back(roles[r].records);
    chips.push_back({r, 1.0, {}});
  }
  if (options.variation.chips_differ()) chips = every_chip(options.variation, network.mesh(), roles);
  return sim::play(chip, network, records, chips, {options.spans, schedule_of(run)});
}

Simulation simulate_recorded(const config::RunConfig& run, const sim::Chip& chip,
                             std::vector<SimulatedRole> roles, const SimulateOptions& options) {
  Simulation out;
  out.roles = std::move(roles);
  for (size_t r = 0; r < out.roles.size(); ++r) {
    if (out.roles[r].placed_bytes > out.roles[out.fullest].placed_bytes) out.fullest = r;
  }
  out.played = play_step(run, chip, out.roles, options);
  return out;
}

Simulation simulate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
                    const SimulateOptions& options) {
  const sim::Network network = network_of(run, chip, options.variation);
  return simulate_recorded(run, chip, record_roles(run, network.mesh(), chip, plugins), options);
}

}  // namespace toroid::train
