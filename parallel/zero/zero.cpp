#include "parallel/zero/zero.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/op/checksum.h"
#include "core/op/elementwise.h"
#include "core/op/reduce.h"
#include "core/op/update.h"

namespace toroid {
Zero::Zero(Device& device, std::vector<UnitSpec> specs, const UpdateRule& optimizer, ZeroOptions options,
           ZeroGroups groups)
    : device_(device),
      optimizer_(optimizer),
      options_(options),
      groups_(groups),
      sharded_(options.stage > 0 && groups.gather.place().size > 1) {
  const Place data = sharded_ ? groups_.gather.place() : Place{};
  int64_t blocks = 0;
  for (UnitSpec& spec : specs) {
    units_.push_back(make_unit(std::move(spec), groups_.model.place(), data.size));
    blocks += op::reduce_blocks(units_.back().flat_elements / data.size);
  }
  held_.resize(units_.size());
  live_.resize(units_.size());
  open_.resize(units_.size());
  for (size_t u = 0; u < units_.size(); ++u) {
    const Unit& unit = units_[u];
    Held& held = held_[u];
    const int64_t share = unit.flat_elements / data.size;
    held.begin = data.rank * share;
    held.end = held.begin + share;
    const Shape shape{share};
    held.master = device_.array(DType::f32, shape, "master weights");
    if (options_.training) {
      make_states(u);
      if (options_.ema_decay > 0) held.ema = device_.array(options_.ema_type, shape, "weight average");
    }
    live_[u].stays = !sharded_ || options_.stage < 3 || unit.flat_elements < options_.whole_below;
    if (sharded_) {
      held.cast = options_.compute == DType::f32 ? Array{held.master.tensor, {}}
                                                 : device_.array(options_.compute, shape, "weight shards");
    }
    if (options_.training && accumulates_whole()) open_[u].flat = gradient_buffer(u);
  }
  if (!options_.training) return;
  std::vector<pathways::Shard> shards;
  for (size_t u = 0; u < units_.size(); ++u) shards.push_back({units_[u].spec.name, held_[u].size()});
  whole_ = std::make_unique<WholeMatrices>(
      device_, optimizer_, units_, groups_.gather, groups_.model, data,
      UpdateNumerics{options_.tiles.deterministic ? DType::f32 : options_.compute, options_.tiles});
  pods_ = options_.make_pods(device_, groups_.pod, options_.pods, std::move(shards));
  if (options_.tiles.deterministic) blocks = canonical_blocks().all();
  partials_ = device_.array(DType::f32, {blocks}, "gradients");
  if (options_.checksums_every > 0) make_checksums();
  if (!options_.replays) return;
  int64_t rows = 0;
  for (const Unit& unit : units_) rows += op::checksum_blocks(unit.flat_elements);
  for (Array& sums : gradient_sums_) sums = device_.array(DType::i64, {rows, 2}, "checksums");
}

// The elements of a tensor that this rank's shard holds.
Run Zero::own_run(size_t u, size_t t) const {
  return run_of(units_[u].slices[t], held_[u].begin, held_[u].end);
}

// Where the run of a tensor lies in the whole of it.
op::RunIndex Zero::run_index(size_t u, size_t t) const {
  const Slice& slice = units_[u].slices[t];
  const TensorSpec& spec = units_[u].spec.tensors[t];
  op::RunIndex index;
  index.start = own_run(u, t).first - slice.offset;
  if (!slice.split) return index;
  if (spec.model_dim == 0) {
    index.start += slice.first * spec.shape[1];
    return index;
  }
  index.width = slice.shape[1];
  index.stride = spec.shape[1];
  index.column = slice.first;
  return index;
}

// One array a state for the whole shard where all tensors of the unit have the same ones, else one for each
// tensor's run.
void Zero::make_states(size_t u) {
  Held& held = held_[u];
  for (const TensorSpec& tensor : units_[u].spec.tensors) {
    UpdatedTensor told = updated(tensor);
    const op::RunIndex index = run_index(u, held.stated.size());
    told.rounding = {random_key(options_.seed, Purpose::round, tensor.name), index};
    const bool whole = optimizer_.whole(told);
    held.stated.push_back({told,
                           whole,
                           whole ? std::vector<std::string>() : optimizer_.states(told),
                           {},
                           {random_key(options_.seed, Purpose::round, "ema " + tensor.name), index}});
  }
  const auto type_of = [&](const Stated& stated) { return optimizer_.state_type(stated.told); };
  const std::vector<std::string>& names = held.stated[0].names;
  const bool alike = std::all_of(held.stated.begin(), held.stated.end(), [&](const Stated& stated) {
    return stated.names == names && type_of(stated) == type_of(held.stated[0]);
  });
  const auto make = [&](DType type, int64_t elements) {
    held.state_memory.push_back(device_.array(type, {elements}, "optimizer states"));
    return held.state_memory.back().tensor;
  };
  std::vector<Tensor> shared;
  for (size_t i = 0; alike && i < names.size(); ++i)
    shared.push_back(make(type_of(held.stated[0]), held.size()));
  for (size_t t = 0; t < held.stated.size(); ++t) {
    const Run run = own_run(u, t);
    if (run.elements() == 0) continue;
    for (size_t i = 0; i < held.stated[t].names.size(); ++i) {
      held.stated[t].states.push_back(alike ? shared[i].slice_rows(run.first - held.begin, run.elements())
                                            : make(type_of(held.stated[t]), run.elements()));
    }
  }
}

void Zero::launch(Call call, Phase phase) const {
  call.phase = phase;
  call.tiles = options_.tiles;
  device_.launch(call);
}

// Whether microbatches are added up in one whole buffer on each rank, before anything is reduced.
// Deterministic mode sums over the data axis first.
bool Zero::accumulates_whole() const {
  return !options_.tiles.deterministic && (!sharded_ || options_.stage == 1);
}

// Master weights

void Zero::clear() {
  for (const Held& held : held_) {
    launch(op::fill(held.master.tensor, {0}), Phase::setup);  // padding stays zero for good
    for (const Array& state : held.state_memory) launch(op::fill(state.tensor, {0}), Phase::setup);
  }
  if (whole_) whole_->clear();
  if (pods_) pods_->begin(masters());
}

void Zero::initialise(uint64_t seed) {
  clear();
  for (size_t u = 0; u < units_.size(); ++u) {
    const Unit& unit = units_[u];
    Held& held = held_[u];
    for (size_t t = 0; t < unit.spec.tensors.size(); ++t) {
      const TensorSpec& spec = unit.spec.tensors[t];
      if (spec.init_stddev == 0) continue;
      const RandomKey key = random_key(seed, Purpose::initialise, spec.name);
      for (const Piece& piece : unit.pieces(t, held.begin, held.end)) {
        launch(op::init_normal(held.master.tensor.slice_rows(piece.offset - held.begin, piece.elements),
                               {key, piece.global, spec.init_stddev}),
               Phase::setup);
      }
    }
    if (held.ema.tensor) begin_average(held.ema.tensor, held.master.tensor);
  }
  if (pods_ && pods_->apart()) pods_->begin(masters());
  masters_changed();
}

void Zero::begin_average(const Tensor& average, const Tensor& master) const {
  if (average.type == master.type) return device_.copy(average, master);
  launch(op::cast(master, average), Phase::setup);
}

std::vector<Tensor> Zero::masters() const {
  std::vector<Tensor> out;
  for (const Held& held : held_) out.push_back(held.master.tensor);
  return out;
}

void Zero::masters_changed() {
  publish_masters();
  if (checksums_) checksums_->note_all();
}

void Zero::publish_masters() {
  for (size_t u = 0; u < units_.size(); ++u) {
    Held& held = held_[u];
    if (held.cast.owner) launch(op::cast(held.master.tensor, held.cast.tensor), Phase::optimizer);
  }
  for (size_t u = 0; u < units_.size(); ++u) {
    if (!live_[u].stays) continue;
    live_[u].forward = live_[u].backward = false;  // what was packed is out of date, its memory is not
    live_[u].flat = Array{};
    make(u, {static_cast<int>(u), units_[u].spec.read_by_rows, true, options_.training}, Phase::optimizer);
  }
}

// Updates

// The tensor's elements `run` of the flat buffer.
void Zero::update_run(size_t u, size_t t, const Run& run, const StepScalars& scalars) const {
  const Held& held = held_[u];
  const Stated& stated = held.stated[t];
  const auto of = [&](const Array& array) {
    return array.tensor.slice_rows(run.first - held.begin, run.elements());
  };
  const int64_t skipped = run.first - own_run(u, t).first;  // elements of the run that is held
  if (!stated.whole) {
    std::vector<Tensor> states;
    for (const Tensor& state : stated.states) states.push_back(state.slice_rows(skipped, run.elements()));
    UpdatedTensor told = stated.told;
    told.rounding.index.start += skipped;
    optimizer_.update(device_, scalars, of(held.pending[0]), of(held.master), states, told);
  }
  if (held.ema.tensor) {
    op::Rounding average = stated.average;
    average.index.start += skipped;
    launch(
        op::ema(of(held.master), scalars.control, of(held.ema), {options_.ema_decay, average}, scalars.state),
        Phase::optimizer);
  }
}

void Zero::update(const StepScalars& scalars) {
  if (checksums_) checksums_->begin_update();
  std::vector<WholeMatrices::Shard> shards;
  for (const Held& held : held_) {
    shards.push_back({held.begin, held.end, held.pending[0].tensor, held.master.tensor});
  }
  whole_->update(scalars, shards);
  for (size_t u = 0; u < units_.size(); ++u) {
    for (size_t t = 0; t < units_[u].slices.size(); ++t) {
      const Run own = own_run(u, t);
      if (own.elements() == 0) continue;
      const auto update = [&](int64_t first, int64_t count) {
        update_run(u, t, {own.first + first, own.first + first + count}, scalars);
      };
      if (checksums_) {
        checksums_->around(held_[u].stated[t].checksums, update);
      } else {
        update(0, own.elements());
      }
    }
  }
  const bool meets = pods_->commit(scalars.control);
  if (meets) outer_step();
  if (checksums_) checksums_->end_update(meets);
  publish_masters();
}

void Zero::outer_step() {
  for (Held& held : held_) held.pending.clear();  // the outer gradients take their memory
  pods_->meet(masters());
}

void Zero::meet_pods() {
  if (pods_->steps_apart() == 0) return;
  outer_step();
  masters_changed();
}

bool Zero::keeps_pods() const {
  return groups_.pod.place().size > 1 && pods_ && !pods_->kept(0).empty();
}

}  // namespace toroid
