#include "simulate/play/record.h"

#include <algorithm>
#include <optional>

#include "core/base/error.h"
#include "simulate/play/simulate.h"
#include "train/engine/engine.h"
#include "train/loop/dry_run.h"
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

std::shared_ptr<const DeviceKernels> kernels_of(const config::RunConfig& run, const sim::Chip& chip,
                                                const Plugins& plugins) {
  if (chip.measured) return plugins.cpu().kernels(chip.measured->threads, bf16_products(run.train()));
  if (run.device() == config::RunConfig::CUDA) return plugins.device(run).kernels(1, Bf16Products::widened);
  return simulated_kernels();
}

// Messages between chips keep the clock of a GPU's collectives, but other staging memory than NCCL's: what a
// run on GPUs takes is what its dry run says.
void take_memory_of_gpus(SimulatedRole& role, const config::RunConfig& run, const mesh::Mesh& mesh,
                         const sim::Chip& chip, const Plugins& plugins) {
  if (chip.measured || run.device() != config::RunConfig::CUDA) return;
  const auto world = make_recorded_world(role.rank, mesh.world_size());
  MemoryPrediction predicted = predict_memory(run, *world, 1, plugins);
  role.memory = std::move(predicted.memory);
  role.placed_bytes = predicted.placed_bytes;
}

bool same(const Record& a, const Record& b) {
  return a.kind == b.kind && a.queue == b.queue && a.op == b.op && a.bytes == b.bytes &&
         a.cost.bytes_read == b.cost.bytes_read && a.cost.bytes_written == b.cost.bytes_written &&
         a.cost.flops() == b.cost.flops();
}

bool same(std::span<const Record> a, std::span<const Record> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const Record& x, const Record& y) { return same(x, y); });
}

bool same(const SimulatedRole& a, const SimulatedRole& b) {
  return a.memory.bytes_peak == b.memory.bytes_peak && same(a.rest, b.rest) &&
         (a.passes == b.passes || same(*a.passes, *b.passes));
}

// What is held at most, by phase. An allocation belongs to the phase of the next operator.
class Peaks {
 public:
  explicit Peaks(int64_t bytes) : bytes_(bytes), most_(bytes) {}
  void add(std::span<const Record> records) {
    for (const Record& record : records) {
      if (record.kind == Record::Kind::allocate) bytes_ += record.bytes;
      if (record.kind == Record::Kind::free) bytes_ -= record.bytes;
      most_ = std::max(most_, bytes_);
      if (record.kind != Record::Kind::launch) continue;
      int64_t& peak = by_phase_[record.phase];
      peak = std::max(peak, most_);
      most_ = bytes_;
    }
  }
  const std::map<Phase, int64_t>& by_phase() const { return by_phase_; }

 private:
  int64_t bytes_, most_;
  std::map<Phase, int64_t> by_phase_;
};

std::map<Phase, int64_t> with(Peaks peaks, std::span<const Record> rest) {
  peaks.add(rest);
  return peaks.by_phase();
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
    auto recorder = std::make_unique<RecordingDevice>(kernels_of(run, chip, plugins));
    device_ = recorder.get();
    device_->keep_records(false);
    device_->keep_waits();
    if (!measured_) device_->place_memory();
    engine_ = make_engine(
        run, mesh, measured_ ? make_recorded_world(rank, size, true) : make_simulated_world(rank, size),
        std::move(recorder), plugins);
    engine_.program->initialise(run.train().seed());
  }

  RecordingDevice& device() { return *device_; }
  void step() {
    engine_.program->upload({}, 0);
    engine_.program->step();
  }
  // Of what has been issued so far; nothing is recorded any more.
  SimulatedRole role() {
    SimulatedRole out;
    out.rank = rank_;
    out.microbatches = engine_.program->microbatches();
    device_->keep_records(false);
    out.memory = device_->statistics();
    out.placed_bytes = measured_ ? out.memory.bytes_peak : device_->placed_peak();
    return out;
  }

 private:
  bool measured_;
  int rank_;
  RecordingDevice* device_ = nullptr;  // the engine's
  Engine engine_;
};

// What goes beside nothing is not cut into rounds that would.
config::RunConfig as_scheduled(const config::RunConfig& run) {
  config::RunConfig out = run;
  if (schedule_of(run).within_pod == sim::Schedule::Beside::nothing)
    out.mutable_mesh()->set_overlap(config::MeshConfig::OFF);
  return out;
}

struct Recorded {
  SimulatedRole role;
  Tickets begin{};  // of the step
  Peaks peaks;      // of its passes
};

// The chip's next step. `expected`: calls, more or less.
Recorded record_step(Issuing& chip, size_t expected) {
  RecordingDevice& device = chip.device();
  const Tickets begin = device.issued();
  Peaks peaks(device.statistics().bytes_now);
  device.keep_records(true, expected);
  device.follow(Phase::optimizer);
  chip.step();
  SimulatedRole role = chip.role();
  std::vector<Record> records = device.take_records();
  const auto rest = records.begin() + static_cast<ptrdiff_t>(device.followed().records);
  role.rest.assign(std::make_move_iterator(rest), std::make_move_iterator(records.end()));
  records.erase(rest, records.end());
  peaks.add(records);
  role.passes = std::make_shared<const std::vector<Record>>(std::move(records));
  role.peak_by_phase = with(peaks, role.rest);
  return {std::move(role), begin, peaks};
}

// The chips of a config issue the same up to the optimizer: collectives and gathered arrays are as long
// everywhere, with padding. Where shards end decides the rest alone.
class Recorder {
 public:
  Recorder(const config::RunConfig& run, const mesh::Mesh& mesh, const sim::Chip& chip,
           const Plugins& plugins)
      : run_(run), mesh_(mesh), chip_(chip), plugins_(plugins) {}

  SimulatedRole record(int rank) {
    Issuing chip(run_, mesh_, rank, chip_, plugins_);
    RecordingDevice& device = chip.device();
    const size_t before = device.calls();
    const Tickets begin = device.issued();
    device.follow(Phase::optimizer, first_.has_value());
    chip.step();
    const RecordingDevice::Followed followed = device.followed();
    if (first_ && followed.ended && followed.digest == digest_) return with_the_firsts_passes(chip, begin);
    device.keep_records(false);
    (void)device.take_records();
    Recorded recorded = record_step(chip, device.calls() - before);
    if (first_) return std::move(recorded.role);
    digest_ = followed.digest;
    return first_.emplace(std::move(recorded)).role;
  }

 private:
  // The step before the recorded one has shown that the chip issues what the first did; what followed its
  // passes is recorded there.
  SimulatedRole with_the_firsts_passes(Issuing& chip, const Tickets& begin) const {
    const SimulatedRole& first = first_->role;
    SimulatedRole out = chip.role();
    // The passes of the recorded step may take more than those of the step before it.
    if (first.memory.bytes_peak > out.memory.bytes_peak) out.memory = first.memory;
    out.placed_bytes = std::max(out.placed_bytes, first.placed_bytes);
    out.passes = first.passes;
    out.rest = chip.device().take_records();
    const auto move = [&](Queue queue, uint64_t& ticket) {
      ticket += first_->begin[static_cast<size_t>(queue)] - begin[static_cast<size_t>(queue)];
    };
    for (Record& record : out.rest) {
      move(record.queue, record.ticket);
      move(record.until.queue, record.until.ticket);
    }
    out.peak_by_phase = with(first_->peaks, out.rest);
    return out;
  }

  const config::RunConfig& run_;
  const mesh::Mesh& mesh_;
  const sim::Chip& chip_;
  const Plugins& plugins_;
  std::optional<Recorded> first_;
  uint64_t digest_ = 0;  // of the passes of its step before
};

}  // namespace

struct FirstChip::State {
  State(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins)
      : mesh(run.mesh()), expected(likely_records(run)), issuing(as_scheduled(run), mesh, 0, chip, plugins) {}
  mesh::Mesh mesh;
  size_t expected;
  Issuing issuing;
};

FirstChip::FirstChip(const config::RunConfig& run, const sim::Chip& chip, const Plugins& plugins) {
  check_length(run);
  state_ = std::make_unique<State>(run, chip, plugins);
}

FirstChip::~FirstChip() = default;

void FirstChip::step() {
  state_->issuing.step();
}

SimulatedRole FirstChip::recorded_step() {
  return record_step(state_->issuing, state_->expected).role;
}

std::vector<SimulatedRole> record_roles(const config::RunConfig& run, const mesh::Mesh& mesh,
                                        const sim::Chip& chip, const Plugins& plugins) {
  check_length(run);
  const config::RunConfig scheduled = as_scheduled(run);
  Recorder recorder(scheduled, mesh, chip, plugins);
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
      SimulatedRole role = recorder.record(rank);
      const auto known = std::find_if(roles.begin(), roles.end(),
                                      [&](const SimulatedRole& other) { return same(role, other); });
      SimulatedRole& kept = known == roles.end() ? roles.emplace_back(std::move(role)) : *known;
      kept.ends.emplace_back(data_ends, model_ends);
    }
  }
  for (SimulatedRole& role : roles) take_memory_of_gpus(role, run, mesh, chip, plugins);
  return roles;
}

size_t fullest(std::span<const SimulatedRole> roles) {
  const auto found = std::max_element(roles.begin(), roles.end(), [](const auto& a, const auto& b) {
    return a.placed_bytes < b.placed_bytes;
  });
  return static_cast<size_t>(found - roles.begin());
}

}  // namespace toroid::train
