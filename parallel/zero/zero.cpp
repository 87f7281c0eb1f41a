#include "parallel/zero/zero.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/error.h"
#include "core/op/checksum.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"
#include "core/op/reduce.h"
#include "core/op/update.h"

namespace toroid {
namespace {

// Shards that may be on their way while the backward pass goes on, before one is waited for and added.
constexpr size_t kArrivalsLeft = 2;

Array borrow(const Array& array) {
  return {array.tensor, {}};
}

bool is_vector(const TensorSpec& tensor) {
  return tensor.shape.rank() == 1;
}

}  // namespace

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
      held.cast = options_.compute == DType::f32 ? borrow(held.master)
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

// Gathered weights

Tensor Zero::plain(size_t u, size_t t) const {
  const Slice& slice = units_[u].slices[t];
  const Array& flat = sharded_ ? live_[u].flat : held_[u].master;
  return flat.tensor.slice_rows(slice.offset, slice.shape.elements()).reshape(slice.shape);
}

void Zero::gather(size_t u, Phase phase) {
  Live& live = live_[u];
  if (!sharded_ || live.flat.tensor) return;
  live.flat = groups_.gather.all_gather(borrow(held_[u].cast),
                                        {units_[u].spec.name + " weights", "gathered weights", phase});
}

void Zero::make_vectors(size_t u, Phase phase) {
  const Unit& unit = units_[u];
  Live& live = live_[u];
  int64_t elements = 0;
  for (const TensorSpec& tensor : unit.spec.tensors) {
    if (is_vector(tensor)) elements += tensor.shape[0];
  }
  if (elements > 0 && !live.vectors.tensor) {
    live.vectors = device_.array(options_.compute, {elements}, "packed weights");
  }
  live.weights.tensors.assign(unit.spec.tensors.size(), Tensor{});
  int64_t at = 0;
  for (size_t t = 0; t < unit.spec.tensors.size(); ++t) {
    if (!is_vector(unit.spec.tensors[t])) continue;
    Tensor& vector = live.weights.tensors[t];
    vector = live.vectors.tensor.slice_rows(at, unit.spec.tensors[t].shape[0]);
    at += vector.shape[0];
    launch(op::cast(plain(u, t), vector), phase);
  }
}

// The rows of `parts` as one matrix where they lie, on a device whose products read plain weights; nothing
// where they are of another type or have gaps between them.
Tensor Zero::in_place(std::span<const Tensor> parts, Layout layout) const {
  if (device_.traits().packs || parts[0].type != options_.compute) return {};
  Tensor out = parts[0];
  int64_t rows = 0;
  for (const Tensor& part : parts) {
    if (part.offset_bytes != out.offset_bytes + rows * out.columns() * bytes_of(out.type)) return {};
    rows += part.rows();
  }
  out.shape = {rows, out.columns()};
  out.layout = layout;
  return out;
}

void Zero::make_packs(size_t u, bool forward, bool backward, Phase phase) {
  const Unit& unit = units_[u];
  Live& live = live_[u];
  live.weights.packs.resize(unit.spec.packs.size());
  std::vector<std::vector<Tensor>> plain_parts(unit.spec.packs.size());
  bool whole_in_place = true;
  for (size_t p = 0; p < unit.spec.packs.size(); ++p) {
    for (const int t : unit.spec.packs[p].tensors) plain_parts[p].push_back(plain(u, static_cast<size_t>(t)));
    whole_in_place = whole_in_place && in_place(plain_parts[p], Layout::packed_forward);
  }
  for (size_t p = 0; p < unit.spec.packs.size(); ++p) {
    PackedMatrix& matrix = live.weights.packs[p];
    const std::vector<Tensor>& parts = plain_parts[p];
    int64_t rows = 0;
    for (const Tensor& part : parts) rows += part.shape[0];
    const int64_t columns = parts[0].shape[1];
    const auto pack = [&](Tensor& to, std::span<const Tensor> from, int64_t n, Layout layout) {
      // What is gathered stays for as long as products read it: for all of them, or it is not worth its
      // memory.
      if (const Tensor where = in_place(from, layout); where && (whole_in_place || !sharded_)) {
        to = where;
        live.in_place = true;
        return;
      }
      if (!to) {
        live.packed.push_back(device_.array(options_.compute, {n, columns}, "packed weights", layout));
        to = live.packed.back().tensor;
      }
      launch(op::pack(from, to), phase);
    };
    if (forward) pack(matrix.forward, parts, rows, Layout::packed_forward);
    if (!backward || !unit.spec.packs[p].backward) continue;
    // What is packed for neither direction is one copy for both.
    const bool shares = !device_.traits().packs && matrix.forward;
    const auto shared_rows = [&](int64_t first, int64_t n) {
      Tensor out = matrix.forward;
      out.layout = Layout::plain;
      out = out.slice_rows(first, n);
      out.layout = Layout::packed_backward;
      return out;
    };
    if (options_.tiles.deterministic && parts.size() > 1) {
      // Each matrix is a tree of its own.
      matrix.backward_parts.resize(parts.size());
      int64_t first = 0;
      for (size_t i = 0; i < parts.size(); ++i) {
        if (shares) {
          matrix.backward_parts[i] = shared_rows(first, parts[i].shape[0]);
          first += parts[i].shape[0];
          continue;
        }
        pack(matrix.backward_parts[i], std::span(parts).subspan(i, 1), parts[i].shape[0],
             Layout::packed_backward);
      }
    } else if (shares) {
      matrix.backward = shared_rows(0, rows);
    } else {
      pack(matrix.backward, parts, rows, Layout::packed_backward);
    }
  }
}

void Zero::make(size_t u, const UnitRead& read, Phase phase) {
  Live& live = live_[u];
  const bool forward = read.forward && !live.forward, backward = read.backward && !live.backward;
  const bool fresh = live.weights.tensors.empty() || live.stays;
  if (!forward && !backward && !fresh && !read.rows) return;
  gather(u, phase);
  if (fresh) make_vectors(u, phase);
  make_packs(u, forward, backward, phase);
  live.forward = live.forward || forward;
  live.backward = live.backward || backward;
  if (read.rows) {
    for (size_t t = 0; t < units_[u].spec.tensors.size(); ++t) {
      if (!is_vector(units_[u].spec.tensors[t])) live.weights.tensors[t] = plain(u, t);
    }
  }
  // Packed, the plain bytes are done with, unless the other direction is still to be packed from them.
  const bool wanted =
      read.rows || live.in_place || (!live.stays && !options_.reshard_after_forward && !live.backward);
  if (sharded_ && !wanted) live.flat = Array{};
}

void Zero::drop(size_t u) {
  Live& live = live_[u];
  live.weights = {};
  live.packed.clear();
  live.vectors = Array{};
  live.flat = Array{};
  live.forward = live.backward = live.in_place = false;
}

int64_t Zero::live_elements() const {
  int64_t elements = 0;
  for (size_t u = 0; u < units_.size(); ++u) {
    if (!live_[u].stays && (live_[u].flat.tensor || !live_[u].packed.empty()))
      elements += units_[u].flat_elements;
  }
  return elements;
}

void Zero::acquire(std::span<const Visit> visits, size_t at, bool again) {
  const auto phase = [](const Visit& visit) { return visit.backward ? Phase::backward : Phase::forward; };
  for (size_t ahead = 0; ahead <= static_cast<size_t>(options_.prefetch); ++ahead) {
    if (at + ahead >= visits.size() && !again) break;
    const Visit& visit = visits[(at + ahead) % visits.size()];
    for (const UnitRead& read : visit.reads) {
      const auto u = static_cast<size_t>(read.unit);
      const Live& live = live_[u];
      const bool ready = (!read.forward || live.forward) && (!read.backward || live.backward) &&
                         (!read.rows || live.flat.tensor) && !live.weights.tensors.empty();
      if (live.stays || ready) continue;
      const bool crowded =
          options_.max_live > 0 && live_elements() + units_[u].flat_elements > options_.max_live;
      if (ahead == 0 || !crowded) gather(u, phase(visit));
    }
  }
  for (const UnitRead& read : visits[at].reads) {
    if (!live_[static_cast<size_t>(read.unit)].stays) {
      make(static_cast<size_t>(read.unit), read, phase(visits[at]));
    }
  }
}

void Zero::release(std::span<const Visit> visits, size_t at, bool again) {
  const auto reads = [](const Visit& visit, int unit) {
    return std::any_of(visit.reads.begin(), visit.reads.end(),
                       [unit](const UnitRead& read) { return read.unit == unit; });
  };
  for (const UnitRead& read : visits[at].reads) {
    bool wanted = live_[static_cast<size_t>(read.unit)].stays;
    for (size_t next = at + 1; next < at + visits.size() && !wanted; ++next) {
      if (next >= visits.size() && !again) break;
      const Visit& visit = visits[next % visits.size()];
      const bool soon = next <= at + static_cast<size_t>(options_.prefetch);
      const bool kept = !options_.reshard_after_forward && next < visits.size();
      wanted = (soon || kept) && reads(visit, read.unit);
    }
    if (!wanted) drop(static_cast<size_t>(read.unit));
  }
}

// Gradients

// A whole unit's. No kernel writes the padding, and sums of squares read it.
Array Zero::gradient_buffer(size_t u) const {
  const Unit& unit = units_[u];
  const DType type = options_.round_gradients ? options_.compute : DType::f32;
  Array flat = device_.array(type, {unit.flat_elements}, "gradients");
  const auto clear = [&](int64_t begin, int64_t end) {
    if (end > begin) launch(op::fill(flat.tensor.slice_rows(begin, end - begin), {0}), Phase::backward);
  };
  for (const Slice& slice : unit.slices) {
    const int64_t blocks = op::reduce_blocks(slice.shape.elements());
    clear(slice.offset + slice.elements, slice.offset + blocks * op::kReduceBlock);
  }
  clear(unit.blocks * op::kReduceBlock, unit.flat_elements);
  return flat;
}

void Zero::begin_step(int64_t microbatches, std::span<const Visit> visits) {
  microbatches_ = microbatches;
  contributions_.assign(units_.size(), 0);
  for (const Visit& visit : visits) {
    for (const int unit : visit.writes) ++contributions_[static_cast<size_t>(unit)];
  }
  for (size_t u = 0; u < units_.size(); ++u) {
    held_[u].pending.clear();
    open_[u].gradients.clear();
  }
}

void Zero::begin_microbatch(int64_t index) {
  microbatch_ = index;
}

std::span<Gradient> Zero::gradients(int unit) {
  const auto u = static_cast<size_t>(unit);
  Open& open = open_[u];
  if (open.gradients.empty()) {
    if (!open.flat.tensor) open.flat = gradient_buffer(u);
    for (const Slice& slice : units_[u].slices) {
      open.gradients.push_back(
          {open.flat.tensor.slice_rows(slice.offset, slice.shape.elements()).reshape(slice.shape), true});
    }
  }
  return open.gradients;
}

void Zero::reduce(const Visit& visit) {
  for (const int unit : visit.writes) {
    const auto u = static_cast<size_t>(unit);
    if (++open_[u].contributions < contributions_[u]) continue;
    open_[u].contributions = 0;
    if (noted_gradients_) note_gradient(u);
    if (replaying_) {
      open_[u] = Open{};
      continue;
    }
    if (!accumulates_whole() || microbatch_ + 1 == microbatches_) reduce_unit(u);
  }
  if (!replaying_) absorb(kArrivalsLeft);
}

void Zero::note_gradient(size_t u) {
  int64_t row = 0;
  for (size_t before = 0; before < u; ++before) row += op::checksum_blocks(units_[before].flat_elements);
  const Tensor& flat = open_[u].flat.tensor;
  if (bytes_of(flat.type) != 4) return;  // a device without numbers
  const Tensor& sums = gradient_sums_[*noted_gradients_].tensor;
  launch(op::checksum({&flat, 1}, sums.slice_rows(row, op::checksum_blocks(flat.elements()))),
         Phase::backward);
}

void Zero::begin_replay() {
  replaying_ = true;
  kept_open_ = std::exchange(open_, std::vector<Open>(units_.size()));
}

void Zero::end_replay() {
  replaying_ = false;
  open_ = std::move(kept_open_);
}

std::vector<Checksum> Zero::noted_gradients(int which) {
  const Tensor& sums = gradient_sums_[which].tensor;
  std::vector<uint64_t> values(static_cast<size_t>(sums.elements()));
  device_.read(sums, std::as_writable_bytes(std::span(values)));
  std::vector<Checksum> out;
  std::span<const uint64_t> rest(values);
  for (const Unit& unit : units_) {
    const auto count = static_cast<size_t>(2 * op::checksum_blocks(unit.flat_elements));
    out.push_back(checksum(std::as_bytes(rest.first(count))));
    rest = rest.subspan(count);
  }
  return out;
}

void Zero::reduce_unit(size_t u) {
  const Unit& unit = units_[u];
  Open& open = open_[u];
  const CollectiveLabel label{unit.spec.name + " gradients", "gradients", Phase::backward};
  if (unit.whole_elements > 0) {
    // A tensor that every model rank holds whole was used on each one's own tokens.
    groups_.model.all_reduce(open.flat.tensor.slice_rows(0, unit.whole_elements), Combine::sum, Wire::exact,
                             label);
  }
  const bool keep = accumulates_whole();
  Array flat = keep ? borrow(open.flat) : std::move(open.flat);
  if (!keep) {
    open.flat = Array{};
    open.gradients.clear();
  }
  if (sharded_) {
    flat = groups_.reduce.reduce_scatter(std::move(flat), options_.wire, label);
  } else {
    groups_.reduce.all_reduce(flat.tensor, Combine::sum, options_.wire, label);
  }
  arrived_.push_back({u, std::move(flat)});
}

// Adds what has arrived to the step's gradients, in order, but for the last `keep` units.
void Zero::absorb(size_t keep) {
  while (arrived_.size() > keep) {
    const size_t u = arrived_.front().unit;
    std::vector<Array>& pending = held_[u].pending;
    Array shard = std::move(arrived_.front().shard);
    arrived_.pop_front();
    if (shard.tensor.type != DType::f32) {
      Array exact = device_.array(DType::f32, shard.tensor.shape, "gradients");
      launch(op::cast(shard.tensor, exact.tensor), Phase::backward);
      shard = std::move(exact);
    }
    pending.push_back(std::move(shard));
    const auto merge = [&] {
      const size_t top = pending.size() - 1;
      launch(op::add(pending[top].tensor, pending[top - 1].tensor), Phase::backward);
      pending.pop_back();
    };
    if (options_.tiles.deterministic) {
      // A binary counter, so that the tree over microbatches does not depend on how they are dealt.
      for (auto bits = static_cast<uint64_t>(microbatch_); (bits & 1u) != 0; bits >>= 1) merge();
    } else if (pending.size() > 1) {
      merge();
    }
    if (microbatch_ + 1 < microbatches_) continue;
    // The microbatches need not be a power of two: the missing ones are zeros, so the remaining subtrees are
    // added from the smallest to the largest.
    while (pending.size() > 1) merge();
    pods_->start(u, std::move(pending[0]), Phase::backward);
    pending.clear();
  }
}

void Zero::end_microbatch() {
  absorb(0);
}

Array Zero::gradient_partials() {
  for (size_t u = 0; u < units_.size(); ++u) held_[u].pending.push_back(pods_->finish(u));
  if (options_.tiles.deterministic) return {canonical_partials(), {}};
  int64_t at = 0;
  for (size_t u = 0; u < units_.size(); ++u) {
    const int64_t blocks = op::reduce_blocks(held_[u].size());
    const Tensor partials = partials_.tensor.slice_rows(at, blocks);
    launch(op::sum_squares(held_[u].pending[0].tensor, partials), Phase::optimizer);
    for (const Slice& slice : units_[u].slices) {
      if (slice.counted) continue;
      const Run run = run_of(slice, held_[u].begin, held_[u].end);
      if (run.elements() == 0) continue;
      const int64_t block = (run.first - held_[u].begin) / op::kReduceBlock,
                    end = op::reduce_blocks(run.last - held_[u].begin);
      launch(op::fill(partials.slice_rows(block, end - block), {0}), Phase::optimizer);
    }
    at += blocks;
  }
  Array gathered = borrow(partials_);
  const CollectiveLabel label{"gradient norm", "gradients", Phase::optimizer};
  if (sharded_) gathered = groups_.gather.all_gather(std::move(gathered), label);
  return groups_.model.all_gather(std::move(gathered), label);
}

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
