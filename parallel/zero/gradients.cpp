// A unit's gradient from the first visit that adds to it to its sum over data ranks and microbatches, and
// what is noted of it on the way.
#include <utility>
#include <vector>

#include "core/op/checksum.h"
#include "core/op/elementwise.h"
#include "core/op/reduce.h"
#include "parallel/zero/zero.h"

namespace toroid {
namespace {

// Shards that may be on their way while the backward pass goes on, before one is waited for and added.
constexpr size_t kArrivalsLeft = 2;

}  // namespace

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
  Array flat = keep ? Array{open.flat.tensor, {}} : std::move(open.flat);
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
  Array gathered{partials_.tensor, {}};
  const CollectiveLabel label{"gradient norm", "gradients", Phase::optimizer};
  if (sharded_) gathered = groups_.gather.all_gather(std::move(gathered), label);
  return groups_.model.all_gather(std::move(gathered), label);
}

}  // namespace toroid
