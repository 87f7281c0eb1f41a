#include "train/simulate/simulate.h"

#include <algorithm>

#include "train/engine.h"
#include "train/simulate/calibration.h"
#include "train/simulate/program.h"

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

std::vector<sim::PlayedChip> every_chip(const Variation& variation, const mesh::Mesh& mesh,
                                        const std::vector<SimulatedRole>& roles) {
  return all_chips(variation, mesh, [&](const mesh::Coordinate& at) {
    const std::pair ends{at.data == mesh.data() - 1, at.model == mesh.model() - 1};
    for (size_t r = 0; r < roles.size(); ++r) {
      if (std::find(roles[r].ends.begin(), roles[r].ends.end(), ends) != roles[r].ends.end()) return r;
    }
    return size_t{0};
  });
}

}  // namespace

std::vector<SimulatedRole> record_roles(const config::RunConfig& run, const mesh::Mesh& mesh,
                                        const sim::Chip& chip, const Plugins& plugins) {
  // Shards differ at the ends of an axis, where padding is.
  std::vector<SimulatedRole> roles;
  for (const bool data_ends : {false, true}) {
    for (const bool model_ends : {false, true}) {
      const int rank = mesh.rank(0, data_ends ? mesh.data() - 1 : 0, model_ends ? mesh.model() - 1 : 0);
      const auto recorded = std::find_if(roles.begin(), roles.end(),
                                         [&](const SimulatedRole& role) { return role.rank == rank; });
      if (recorded != roles.end()) {
        recorded->ends.emplace_back(data_ends, model_ends);
        continue;
      }
      SimulatedRole role = record_role(run, mesh, rank, chip, plugins);
      const auto known = std::find_if(roles.begin(), roles.end(),
                                      [&](const SimulatedRole& other) { return same(role, other); });
      SimulatedRole& kept = known == roles.end() ? roles.emplace_back(std::move(role)) : *known;
      kept.ends.emplace_back(data_ends, model_ends);
    }
  }
  return roles;
}

Simulation simulate(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins,
                    const SimulateOptions& options) {
  check(options.variation, mesh::Mesh(run.mesh()));
  sim::Network network(mesh::Mesh(run.mesh()), chip);
  for (const Variation::LinkFault& fault : options.variation.faults)
    network.weaken(static_cast<int>(fault.dimension), fault.share);
  Simulation out;
  out.roles = record_roles(run, network.mesh(), chip, plugins);
  std::vector<std::span<const Record>> records;
  std::vector<sim::PlayedChip> chips;
  for (size_t r = 0; r < out.roles.size(); ++r) {
    records.emplace_back(out.roles[r].records);
    chips.push_back({r, 1.0, {}});
    if (out.roles[r].memory.bytes_peak > out.roles[out.fullest].memory.bytes_peak) out.fullest = r;
  }
  if (!run.simulate().program().empty()) {
    const ProgramConstants constants =
        program_constants(read_calibration(calibration_file()), run.simulate().program());
    sim::Chip sheet = chip;
    sheet.constants = {};
    sim::Network nominal(mesh::Mesh(run.mesh()), sheet);
    size_t slowest = 0;
    ProgramTime longest;
    for (size_t r = 0; r < out.roles.size(); ++r) {
      const ProgramTime time =
          ProgramStep(out.roles[r].records, nominal, run.simulate().parallel_layers()).time(chip, constants);
      if (time.total() > longest.total()) {
        longest = time;
        slowest = r;
      }
    }
    out.played = as_played(longest, network, out.roles[slowest].records);
    return out;
  }
  if (options.variation.chips_differ()) chips = every_chip(options.variation, network.mesh(), out.roles);
  out.played = sim::play(chip, network, records, chips, options.play);
  return out;
}

}  // namespace toroid::train
