#include "parallel/zero/zero.h"

#include <bit>
#include <cmath>

#include "core/base/error.h"
#include "core/op/elementwise.h"
#include "core/op/matmul.h"
#include "core/op/reduce.h"
#include "core/op/update.h"

namespace toroid {

Zero::Zero(Device& device, std::vector<UnitSpec> specs, const UpdateRule& optimizer, ZeroOptions options)
    : device_(device), optimizer_(optimizer), options_(options) {
  int64_t blocks = 0;
  for (UnitSpec& spec : specs) {
    units_.push_back(make_unit(std::move(spec)));
    blocks += units_.back().flat_elements / op::kReduceBlock;
  }
  flats_.resize(units_.size());
  live_.resize(units_.size());
  packed_.resize(units_.size());
  gradients_.resize(units_.size());
  for (size_t u = 0; u < units_.size(); ++u) {
    const Unit& unit = units_[u];
    Flat& flat = flats_[u];
    const Shape whole{unit.flat_elements};
    flat.master = device_.array(DType::f32, whole, "master weights");
    if (options_.training) {
      for (size_t i = 0; i < optimizer_.states().size(); ++i) {
        flat.states.push_back(device_.array(DType::f32, whole, "optimizer states"));
      }
      if (options_.ema_decay > 0) flat.ema = device_.array(DType::f32, whole, "weight average");
      flat.pending.push_back(device_.array(DType::f32, whole, "gradients"));
      // Padding is never written by a kernel, and the sums of squares read it.
      launch(op::fill(flat.pending.back().tensor, {0}), Phase::setup);
      gradients_[u].resize(unit.slices.size());
    }

    int64_t vector_elements = 0;
    for (const TensorSpec& tensor : unit.spec.tensors) {
      if (tensor.shape.rank() == 1) vector_elements += tensor.shape[0];
    }
    if (vector_elements > 0)
      flat.norms = device_.array(options_.compute, {vector_elements}, "packed weights");
    Weights& live = live_[u];
    int64_t at = 0;
    for (size_t t = 0; t < unit.spec.tensors.size(); ++t) {
      const Shape shape = unit.spec.tensors[t].shape;
      if (shape.rank() == 1) {
        live.tensors.push_back(flat.norms.tensor.slice_rows(at, shape[0]));
        at += shape[0];
      } else {
        live.tensors.push_back(
            slice(flat.master, unit, t));  // rows of the embedding are read from the master
      }
    }
    for (const PackSpec& pack : unit.spec.packs) {
      int64_t rows = 0;
      const Shape first = unit.spec.tensors[static_cast<size_t>(pack.tensors[0])].shape;
      for (const int t : pack.tensors) rows += unit.spec.tensors[static_cast<size_t>(t)].shape[0];
      const auto make = [&](int64_t n, Layout layout) {
        packed_[u].push_back(device_.array(options_.compute, {n, first[1]}, "packed weights", layout));
        return packed_[u].back().tensor;
      };
      PackedMatrix matrix;
      matrix.forward = make(rows, Layout::packed_forward);
      if (options_.training && pack.backward) {
        if (options_.tiles.deterministic && pack.tensors.size() > 1) {
          for (const int t : pack.tensors) {
            matrix.backward_parts.push_back(
                make(unit.spec.tensors[static_cast<size_t>(t)].shape[0], Layout::packed_backward));
          }
        } else {
          matrix.backward = make(rows, Layout::packed_backward);
        }
      }
      live.packs.push_back(std::move(matrix));
    }
  }
  if (options_.training) partials_ = device_.array(DType::f32, {blocks}, "gradients");
}

Tensor Zero::slice(const Array& flat, const Unit& unit, size_t tensor) const {
  const Slice& at = unit.slices[tensor];
  return flat.tensor.slice_rows(at.offset, at.elements).reshape(unit.spec.tensors[tensor].shape);
}

void Zero::launch(Call call, Phase phase) {
  call.phase = phase;
  call.tiles = options_.tiles;
  device_.launch(call);
}

void Zero::initialise(uint64_t seed, int64_t d_model) {
  for (size_t u = 0; u < units_.size(); ++u) {
    const Unit& unit = units_[u];
    launch(op::fill(flats_[u].master.tensor, {0}), Phase::setup);  // padding stays zero for good
    for (const Array& state : flats_[u].states) launch(op::fill(state.tensor, {0}), Phase::setup);
    for (size_t t = 0; t < unit.spec.tensors.size(); ++t) {
      const TensorSpec& spec = unit.spec.tensors[t];
      if (spec.init == Init::zero) continue;
      const double stddev =
          spec.init == Init::embedding ? 1.0 / std::sqrt(static_cast<double>(d_model)) : 0.02;
      launch(op::init_normal(slice(flats_[u].master, unit, t),
                             {random_key(seed, Purpose::initialise, spec.name), 0, stddev}),
             Phase::setup);
    }
    if (flats_[u].ema.tensor) device_.copy(flats_[u].ema.tensor, flats_[u].master.tensor);
  }
  pack();
}

void Zero::pack() {
  for (size_t u = 0; u < units_.size(); ++u) {
    const Unit& unit = units_[u];
    for (size_t t = 0; t < unit.spec.tensors.size(); ++t) {
      if (unit.spec.tensors[t].shape.rank() != 1) continue;
      launch(op::cast(slice(flats_[u].master, unit, t), live_[u].tensors[t]), Phase::optimizer);
    }
    for (size_t p = 0; p < unit.spec.packs.size(); ++p) {
      std::vector<Tensor> parts;
      for (const int t : unit.spec.packs[p].tensors) {
        parts.push_back(slice(flats_[u].master, unit, static_cast<size_t>(t)));
      }
      const PackedMatrix& matrix = live_[u].packs[p];
      launch(op::pack(parts, matrix.forward), Phase::optimizer);
      if (matrix.backward) launch(op::pack(parts, matrix.backward), Phase::optimizer);
      for (size_t i = 0; i < matrix.backward_parts.size(); ++i) {
        launch(op::pack(std::span(parts).subspan(i, 1), matrix.backward_parts[i]), Phase::optimizer);
      }
    }
  }
}

void Zero::point_gradients(size_t u, const Array& flat, bool fresh) {
  for (size_t t = 0; t < gradients_[u].size(); ++t) {
    gradients_[u][t] = {slice(flat, units_[u], t), fresh};
  }
}

void Zero::begin_step() {
  for (size_t u = 0; u < units_.size(); ++u) {
    if (!options_.tiles.deterministic) point_gradients(u, flats_[u].pending[0], true);
  }
}

void Zero::begin_microbatch(int64_t index) {
  if (!options_.tiles.deterministic) return;
  // Levels 0 .. (count of trailing ones of index) - 1 are full; the new gradients go to a buffer beyond them.
  const auto full = static_cast<size_t>(std::popcount(static_cast<uint64_t>(index)));
  for (size_t u = 0; u < units_.size(); ++u) {
    auto& pending = flats_[u].pending;
    if (pending.size() <= full) {
      pending.push_back(device_.array(DType::f32, {units_[u].flat_elements}, "gradients"));
      launch(op::fill(pending.back().tensor, {0}), Phase::backward);
    }
    point_gradients(u, pending[full], true);
  }
}

void Zero::end_microbatch(int64_t index) {
  if (!options_.tiles.deterministic) return;
  // A binary counter: `pending` is a stack of complete subtrees, the largest at the bottom.
  auto top = static_cast<size_t>(std::popcount(static_cast<uint64_t>(index)));
  for (uint64_t bits = static_cast<uint64_t>(index); (bits & 1u) != 0; bits >>= 1, --top) {
    for (Flat& flat : flats_) {
      launch(op::add(flat.pending[top].tensor, flat.pending[top - 1].tensor), Phase::backward);
    }
  }
  last_microbatch_ = index;
}

// The step's microbatches need not be a power of two: the missing ones are zeros, so the remaining subtrees
// are added from the smallest to the largest.
void Zero::merge(size_t u) {
  auto& pending = flats_[u].pending;
  const auto subtrees = static_cast<size_t>(std::popcount(static_cast<uint64_t>(last_microbatch_ + 1)));
  for (size_t top = subtrees - 1; top > 0; --top) {
    launch(op::add(pending[top].tensor, pending[top - 1].tensor), Phase::backward);
  }
  point_gradients(u, pending[0], false);
}

Tensor Zero::gradient_partials() {
  int64_t at = 0;
  for (size_t u = 0; u < units_.size(); ++u) {
    if (options_.tiles.deterministic) merge(u);
    const int64_t blocks = units_[u].flat_elements / op::kReduceBlock;
    launch(op::sum_squares(flats_[u].pending[0].tensor, partials_.tensor.slice_rows(at, blocks)),
           Phase::optimizer);
    at += blocks;
  }
  return partials_.tensor;
}

void Zero::update(const StepScalars& scalars) {
  for (size_t u = 0; u < units_.size(); ++u) {
    const Unit& unit = units_[u];
    for (size_t t = 0; t < unit.spec.tensors.size(); ++t) {
      const auto flat = [&](const Array& array) {
        return array.tensor.slice_rows(unit.slices[t].offset, unit.slices[t].elements);
      };
      std::vector<Tensor> states;
      for (const Array& state : flats_[u].states) states.push_back(flat(state));
      optimizer_.update(device_, scalars, flat(flats_[u].pending[0]), flat(flats_[u].master), states,
                        unit.spec.tensors[t].decay);
      if (flats_[u].ema.tensor) {
        launch(op::ema(flat(flats_[u].master), scalars.control, flat(flats_[u].ema), {options_.ema_decay}),
               Phase::optimizer);
      }
    }
  }
  pack();
}

std::vector<NamedTensor> Zero::parts() const {
  std::vector<NamedTensor> out;
  const std::vector<std::string> states = optimizer_.states();
  for (size_t u = 0; u < units_.size(); ++u) {
    for (size_t t = 0; t < units_[u].spec.tensors.size(); ++t) {
      const std::string& name = units_[u].spec.tensors[t].name;
      out.push_back({name, "master", slice(flats_[u].master, units_[u], t)});
      for (size_t s = 0; s < flats_[u].states.size(); ++s) {
        out.push_back({name, states[s], slice(flats_[u].states[s], units_[u], t)});
      }
      if (flats_[u].ema.tensor) out.push_back({name, "ema", slice(flats_[u].ema, units_[u], t)});
    }
  }
  return out;
}

std::vector<NamedTensor> Zero::gradient_tensors() const {
  std::vector<NamedTensor> out;
  for (size_t u = 0; u < units_.size(); ++u) {
    for (size_t t = 0; t < units_[u].spec.tensors.size(); ++t) {
      out.push_back({units_[u].spec.tensors[t].name, "gradient", slice(flats_[u].pending[0], units_[u], t)});
    }
  }
  return out;
}

}  // namespace toroid
