#include "simulate/play/record.h"

#include <algorithm>
#include <optional>

#include "core/base/error.h"
#include "simulate/play/simulate.h"
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

// Of a first step, for which memory is set aside. Most take fewer.
size_t likely_records(const config::RunConfig& run) {
  constexpr int64_t kOfALayer = 640, kMost = int64_t{1} << 18;
  return static_cast<size_t>(std::min(kMost, kOfALayer * microbatches_of(run) * (run.model().layers() + 2)));
}

// One chip that issues steps and records some of them.
class Issuing {
 public:
  // A computer's ranks have its kernels, with the memory that those take, and read each other's.
  Issuing(const config::RunConfig& run, const mesh::Mesh& mesh, int rank, const sim::Chip& chip,
          const Plugins& plugins)
      : measured_(chip.measured.has_value()), rank_(rank) {
    const int size = mesh.world_size();
    auto recorder = std::make_unique<RecordingDevice>(
        measured_ ? plugins.cpu().kernels(chip.measured->threads, bf16_products(run.train()))
                  : simulated_kernels());
    device_ = recorder.get();
    device_->keep_records(false);
    device_->keep_waits();
    if (!measured_) device_->place_memory();
    engine_ = make_engine(run, mesh,
                          measured_ ? make_recorded_world(rank, size, true) : make_simulated_world(rank, size),
                          std::move(recorder), plugins);
    engine_.program->initialise(run.train().seed());
  }

  RecordingDevice& device() { return *device_; }
  void step() {
    engine_.program->upload({}, 0);
    engine_.program->step();
  }
  // With the records that the device has kept of a step that began with `before` bytes held.
  SimulatedRole role(int64_t before) {
    SimulatedRole out;
    out.rank = rank_;
    out.microbatches = engine_.program->microbatches();
    device_->keep_records(false);
    out.records = device_->take_records();
    out.memory = device_->statistics();
    out.placed_bytes = measured_ ? out.memory.bytes_peak : device_->placed_peak();
    out.peak_by_phase = peaks(out.records, before);
    return out;
  }

 private:
  bool measured_;
  int rank_;
  RecordingDevice* device_ = nullptr;  // the engine's
  Engine engine_;
};

// The chips of a config issue the same up to the optimizer: collectives and gathered arrays are as long
// everywhere, with padding. Where shards end decides the rest alone.
class Recorder {
 public:
  Recorder(const config::RunConfig& run, const mesh::Mesh& mesh, const sim::Chip& chip,
           const Plugins& plugins, bool first_step)
      : run_(run), mesh_(mesh), chip_(chip), plugins_(plugins), first_step_(first_step) {}

  // `before`: what this returned until now.
  SimulatedRole record(int rank, const std::vector<SimulatedRole>& before) {
    if (!before.empty() && !first_step_) {
      if (auto role = with_the_passes_of(before[0], rank)) return std::move(*role);
      return record_in_full(rank).role;
    }
    Recorded recorded = record_in_full(rank);
    first_ = recorded.step;
    return std::move(recorded.role);
  }

 private:
  struct Step {
    RecordingDevice::Followed step_before, step;
    Tickets begin{};           // of the step
    size_t calls = 0;          // of a step
    int64_t bytes_before = 0;  // that were held when the step began
  };
  struct Recorded {
    SimulatedRole role;
    Step step;
  };

  Recorded record_in_full(int rank) const {
    Issuing chip(run_, mesh_, rank, chip_, plugins_);
    RecordingDevice& device = chip.device();
    Step out;
    if (!first_step_) {
      const size_t calls = device.calls();
      device.follow(Phase::optimizer);
      chip.step();
      out.step_before = device.followed();
      out.calls = device.calls() - calls;
    }
    out.begin = device.issued();
    out.bytes_before = device.statistics().bytes_now;
    device.keep_records(true, out.calls > 0 ? out.calls : likely_records(run_));
    device.follow(Phase::optimizer);
    chip.step();
    out.step = device.followed();
    return {chip.role(out.bytes_before), out};
  }

  // The step before the recorded one shows whether this chip issues what the first did; what follows its
  // passes is recorded there, and takes the place of the first's. Nothing where it does not.
  std::optional<SimulatedRole> with_the_passes_of(const SimulatedRole& first, int rank) const {
    Issuing chip(run_, mesh_, rank, chip_, plugins_);
    RecordingDevice& device = chip.device();
    const Tickets begin = device.issued();
    device.follow(Phase::optimizer, true);
    chip.step();
    const RecordingDevice::Followed followed = device.followed();
    if (!followed.ended || followed.digest != first_.step_before.digest) return std::nullopt;
    SimulatedRole out = chip.role(0);
    std::vector<Record> rest = std::move(out.records);
    out.records.reserve(first_.step.records + rest.size());
    const Tickets after = device.issued();
    const auto add = [&out](Record record, const Tickets& to, const Tickets& from) {
      const auto moved = [&](Queue queue, uint64_t ticket) {
        return ticket + to[static_cast<size_t>(queue)] - from[static_cast<size_t>(queue)];
      };
      record.ticket = moved(record.queue, record.ticket);
      record.until.ticket = moved(record.until.queue, record.until.ticket);
      out.records.push_back(std::move(record));
    };
    for (size_t i = 0; i < first_.step.records; ++i) add(first.records[i], after, first_.begin);
    for (Record& record : rest) add(std::move(record), after, begin);
    // The passes of the recorded step may take more than those of the step before it.
    if (first.memory.bytes_peak > out.memory.bytes_peak) out.memory = first.memory;
    out.placed_bytes = std::max(out.placed_bytes, first.placed_bytes);
    out.peak_by_phase = peaks(out.records, first_.bytes_before);
    return out;
  }

  const config::RunConfig& run_;
  const mesh::Mesh& mesh_;
  const sim::Chip& chip_;
  const Plugins& plugins_;
  bool first_step_;
  Step first_;
};

}  // namespace

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
  Recorder recorder(run, mesh, chip, plugins, options.first_step);
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
      SimulatedRole role = recorder.record(rank, roles);
      const auto known = std::find_if(roles.begin(), roles.end(),
                                      [&](const SimulatedRole& other) { return same(role, other); });
      SimulatedRole& kept = known == roles.end() ? roles.emplace_back(std::move(role)) : *known;
      kept.ends.emplace_back(data_ends, model_ends);
    }
  }
  return roles;
}

}  // namespace toroid::train
