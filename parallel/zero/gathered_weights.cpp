// The weights of a unit while visits read them: gathered ahead, packed for the products, dropped when neither
// the next visits nor the backward pass will read them.
#include <algorithm>
#include <span>
#include <vector>

#include "core/op/elementwise.h"
#include "core/op/matmul.h"
#include "parallel/zero/zero.h"

namespace toroid {
namespace {

bool is_vector(const TensorSpec& tensor) {
  return tensor.shape.rank() == 1;
}

}  // namespace

Tensor Zero::plain(size_t u, size_t t) const {
  const Slice& slice = units_[u].slices[t];
  const Array& flat = sharded_ ? live_[u].flat : held_[u].master;
  return flat.tensor.slice_rows(slice.offset, slice.shape.elements()).reshape(slice.shape);
}

void Zero::gather(size_t u, Phase phase) {
  Live& live = live_[u];
  if (!sharded_ || live.flat.tensor) return;
  live.flat = groups_.gather.all_gather({held_[u].cast.tensor, {}},
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

}  // namespace toroid
