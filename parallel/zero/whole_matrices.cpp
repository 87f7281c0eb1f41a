#include "parallel/zero/whole_matrices.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/op/elementwise.h"

namespace toroid {
namespace {

constexpr std::string_view kHolder = "temporaries";

// Where in the blocks of an exchange the next matrix's elements go.
class Blocks {
 public:
  Blocks(int ranks, int64_t elements) : elements_(elements), used_(static_cast<size_t>(ranks), 0) {}

  Tensor next(const Tensor& buffer, int rank, int64_t elements) {
    int64_t& used = used_[static_cast<size_t>(rank)];
    require(used + elements <= elements_, "an exchange's block holds what is dealt to it");
    used += elements;
    return buffer.slice_rows(rank * elements_ + used - elements, elements);
  }

 private:
  int64_t elements_;
  std::vector<int64_t> used_;
};

}  // namespace

std::vector<int> deal_evenly(std::span<const int64_t> work, int ranks) {
  std::vector<size_t> order(work.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return work[a] > work[b]; });
  std::vector<int64_t> load(static_cast<size_t>(ranks), 0);
  std::vector<int> owner(work.size());
  for (const size_t i : order) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += work[i];
    owner[i] = static_cast<int>(least - load.begin());
  }
  return owner;
}

UpdatedTensor updated(const TensorSpec& tensor) {
  return {tensor.name, tensor.shape, tensor.decay, tensor.hidden};
}

WholeMatrices::WholeMatrices(Device& device, const UpdateRule& rule, std::span<const Unit> units,
                             Communicator& data, Communicator& model, Place data_place,
                             UpdateNumerics numerics)
    : device_(device),
      rule_(rule),
      data_group_(data),
      model_group_(model),
      data_(data_place),
      model_(model.place()),
      numerics_(numerics) {
  std::vector<int64_t> work;
  for (size_t u = 0; u < units.size(); ++u) {
    flat_share_.push_back(units[u].flat_elements / data_.size);
    for (size_t t = 0; t < units[u].slices.size(); ++t) {
      Matrix matrix{u, t, updated(units[u].spec.tensors[t]), 0, 0, {}, {}};
      if (!rule_.whole(matrix.told)) continue;
      require(matrix.told.shape.rank() == 2, "what a rule sees whole is a matrix");
      for (int m = 0; m < model_.size; ++m) {
        // Ranks place a tensor's parts alike: they have one size, but for padding.
        matrix.slices.push_back(part_of(units[u].spec.tensors[t], {m, model_.size}));
        matrix.slices.back().offset = units[u].slices[t].offset;
      }
      work.push_back(rule_.work(matrix.told));
      matrices_.push_back(std::move(matrix));
    }
  }
  const std::vector<int> owners = deal_evenly(work, data_.size * model_.size);
  const auto D = static_cast<size_t>(data_.size), M = static_cast<size_t>(model_.size);
  std::vector<int64_t> by_data(D * D * M, 0), to_owner(D * M * M, 0), from_owner(D * M * M, 0);
  for (size_t i = 0; i < matrices_.size(); ++i) {
    Matrix& matrix = matrices_[i];
    matrix.data = owners[i] / model_.size;
    matrix.model = owners[i] % model_.size;
    const auto d = static_cast<size_t>(matrix.data), o = static_cast<size_t>(matrix.model);
    for (size_t m = 0; m < M; ++m) {
      const Slice& part = matrix.slices[m];
      if (part.split) to_owner[(d * M + m) * M + o] += part.elements;
      from_owner[(d * M + m) * M + o] += part.elements;
      for (size_t from = 0; from < D; ++from) {
        by_data[(from * D + d) * M + m] += run_in(matrix, part, static_cast<int>(from)).elements();
      }
    }
    if (!owns(matrix)) continue;
    for (const std::string& name : rule_.states(matrix.told)) {
      kept_.push_back({matrix.unit, matrix.tensor, name,
                       device_.array(DType::f32, matrix.told.shape, "optimizer states")});
      matrix.states.push_back(kept_.back().values.tensor);
    }
  }
  const auto most = [](const std::vector<int64_t>& of) { return *std::max_element(of.begin(), of.end()); };
  data_block_ = most(by_data);
  to_owner_block_ = most(to_owner);
  from_owner_block_ = most(from_owner);
}

void WholeMatrices::clear() const {
  for (const Kept& kept : kept_) launch(op::fill(kept.values.tensor, {0}), Phase::setup);
}

void WholeMatrices::launch(Call call, Phase phase) const {
  call.phase = phase;
  call.tiles = numerics_.tiles;
  device_.launch(call);
}

const Slice& WholeMatrices::slice(const Matrix& matrix) const {
  return matrix.slices[static_cast<size_t>(model_.rank)];
}

// What a rank of the data axis holds of a part.
Run WholeMatrices::run_in(const Matrix& matrix, const Slice& part, int data_rank) const {
  const int64_t share = flat_share_[matrix.unit];
  return toroid::run_of(part, data_rank * share, (data_rank + 1) * share);
}

// A run of this model rank's part, which lies by itself.
Tensor WholeMatrices::in_part(const Matrix& matrix, const Tensor& part, const Run& run) const {
  return part.slice_rows(run.first - slice(matrix).offset, run.elements());
}

// A model rank's part of a whole matrix, without padding: rows of it, or columns, or all.
Tensor WholeMatrices::part_in(const Matrix& matrix, const Tensor& whole, int model_rank) const {
  const Slice& part = matrix.slices[static_cast<size_t>(model_rank)];
  if (!part.split) return whole;
  if (part.shape[1] == whole.columns()) return whole.slice_rows(part.first, part.elements / whole.columns());
  return whole.slice_columns(part.first, part.shape[1]);
}

// Block i of `sent` goes to rank i; what comes is in the order of the ranks.
Array WholeMatrices::exchange(Communicator& group, Array sent, const char* what) const {
  Array received = device_.array(sent.tensor.type, sent.tensor.shape, kHolder);
  group.all_to_all(sent.tensor, received.tensor, {what, kHolder, Phase::optimizer});
  // A rank for which nothing comes waits as well: when its step is done, what it sends has been sent.
  launch(op::fill(received.tensor.slice_rows(0, 0), {0}), Phase::optimizer);
  return received;
}

// The gradient of this model rank's part of each matrix, flat, where the data axis's owner is; views of the
// shards where nothing is shared.
std::vector<Array> WholeMatrices::gather_over_data(std::span<const Shard> shards) {
  std::vector<Array> parts(matrices_.size());
  const auto own_run = [&](const Matrix& matrix) {
    const Run run = run_of(matrix, data_.rank);
    const Shard& shard = shards[matrix.unit];
    return shard.gradient.slice_rows(run.first - shard.begin, run.elements());
  };
  if (data_.size == 1) {
    for (size_t i = 0; i < matrices_.size(); ++i) parts[i].tensor = own_run(matrices_[i]);
    return parts;
  }
  Array sent = device_.array(DType::f32, {data_.size * data_block_}, kHolder);
  Blocks to(data_.size, data_block_);
  for (const Matrix& matrix : matrices_) {
    if (run_of(matrix, data_.rank).elements() == 0) continue;
    const Tensor run = own_run(matrix);
    device_.copy(to.next(sent.tensor, matrix.data, run.elements()), run);
  }
  const Array received = exchange(data_group_, std::move(sent), "gradients of whole matrices");
  Blocks from(data_.size, data_block_);
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const Matrix& matrix = matrices_[i];
    if (!at_data_owner(matrix)) continue;
    parts[i] = device_.array(DType::f32, {slice(matrix).elements}, kHolder);
    for (int rank = 0; rank < data_.size; ++rank) {
      const Run run = run_of(matrix, rank);
      if (run.elements() == 0) continue;
      device_.copy(in_part(matrix, parts[i].tensor, run), from.next(received.tensor, rank, run.elements()));
    }
  }
  return parts;
}

// The whole gradient [out, in] of each matrix at its owner.
std::vector<Array> WholeMatrices::gather_over_model(std::vector<Array> parts) {
  if (model_.size > 1 && to_owner_block_ > 0) {
    Array sent = device_.array(DType::f32, {model_.size * to_owner_block_}, kHolder);
    Blocks to(model_.size, to_owner_block_);
    for (size_t i = 0; i < matrices_.size(); ++i) {
      const Matrix& matrix = matrices_[i];
      if (!at_data_owner(matrix) || !slice(matrix).split) continue;
      if (slice(matrix).elements > 0) {
        device_.copy(to.next(sent.tensor, matrix.model, slice(matrix).elements), parts[i].tensor);
      }
      parts[i] = Array{};
    }
    const Array received = exchange(model_group_, std::move(sent), "gradients of whole matrices");
    Blocks from(model_.size, to_owner_block_);
    for (size_t i = 0; i < matrices_.size(); ++i) {
      const Matrix& matrix = matrices_[i];
      if (!owns(matrix) || !slice(matrix).split) continue;
      parts[i] = device_.array(DType::f32, matrix.told.shape, kHolder);
      for (int rank = 0; rank < model_.size; ++rank) {
        const Tensor part = part_in(matrix, parts[i].tensor, rank);
        if (part.elements() == 0) continue;
        launch(op::cast(from.next(received.tensor, rank, part.elements()).reshape(part.shape), part),
               Phase::optimizer);
      }
    }
  }
  for (size_t i = 0; i < matrices_.size(); ++i) {
    if (!owns(matrices_[i])) {
      parts[i] = Array{};
    } else {
      parts[i].tensor = parts[i].tensor.reshape(matrices_[i].told.shape);
    }
  }
  return parts;
}

Array WholeMatrices::direction_of(const Matrix& matrix, const StepScalars& scalars,
                                  const Tensor& gradient) const {
  Array direction = device_.array(numerics_.products, matrix.told.shape, kHolder);
  rule_.find_direction(device_, scalars, gradient, matrix.states, direction.tensor, numerics_);
  return direction;
}

// This model rank's part of each direction, flat, where the data axis's owner is.
std::vector<Array> WholeMatrices::scatter_over_model(std::vector<Array> directions) {
  const auto flat = [&](Array array) {
    array.tensor = array.tensor.reshape({array.tensor.elements()});
    return array;
  };
  std::vector<Array> parts(matrices_.size());
  if (model_.size == 1) {
    for (size_t i = 0; i < matrices_.size(); ++i) {
      if (owns(matrices_[i])) parts[i] = flat(std::move(directions[i]));
    }
    return parts;
  }
  Array sent = device_.array(numerics_.products, {model_.size * from_owner_block_}, kHolder);
  Blocks to(model_.size, from_owner_block_);
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const Matrix& matrix = matrices_[i];
    if (!owns(matrix)) continue;
    for (int rank = 0; rank < model_.size; ++rank) {
      const Tensor part = part_in(matrix, directions[i].tensor, rank);
      if (part.elements() == 0) continue;
      launch(op::cast(part, to.next(sent.tensor, rank, part.elements()).reshape(part.shape)),
             Phase::optimizer);
    }
    directions[i] = Array{};
  }
  const Array received = exchange(model_group_, std::move(sent), "directions of whole matrices");
  Blocks from(model_.size, from_owner_block_);
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const Matrix& matrix = matrices_[i];
    if (!at_data_owner(matrix) || slice(matrix).elements == 0) continue;
    parts[i] = device_.array(numerics_.products, {slice(matrix).elements}, kHolder);
    device_.copy(parts[i].tensor, from.next(received.tensor, matrix.model, slice(matrix).elements));
  }
  return parts;
}

// This rank's run of each direction.
std::vector<Array> WholeMatrices::scatter_over_data(std::vector<Array> parts) {
  if (data_.size == 1) return parts;
  Array sent = device_.array(numerics_.products, {data_.size * data_block_}, kHolder);
  Blocks to(data_.size, data_block_);
  for (size_t i = 0; i < matrices_.size(); ++i) {
    if (!at_data_owner(matrices_[i])) continue;
    for (int rank = 0; rank < data_.size; ++rank) {
      const Run run = run_of(matrices_[i], rank);
      if (run.elements() == 0) continue;
      device_.copy(to.next(sent.tensor, rank, run.elements()), in_part(matrices_[i], parts[i].tensor, run));
    }
    parts[i] = Array{};
  }
  const Array received = exchange(data_group_, std::move(sent), "directions of whole matrices");
  Blocks from(data_.size, data_block_);
  std::vector<Array> runs(matrices_.size());
  for (size_t i = 0; i < matrices_.size(); ++i) {
    const int64_t elements = run_of(matrices_[i], data_.rank).elements();
    if (elements == 0) continue;
    runs[i] = device_.array(numerics_.products, {elements}, kHolder);
    device_.copy(runs[i].tensor, from.next(received.tensor, matrices_[i].data, elements));
  }
  return runs;
}

void WholeMatrices::update(const StepScalars& scalars, std::span<const Shard> shards) {
  if (matrices_.empty()) return;
  const auto descend = [&](const Matrix& matrix, const Tensor& direction) {
    const Run run = run_of(matrix, data_.rank);
    if (run.elements() == 0) return;
    const Shard& shard = shards[matrix.unit];
    rule_.descend(device_, scalars, direction,
                  shard.master.slice_rows(run.first - shard.begin, run.elements()), matrix.told);
  };
  std::vector<Array> gradients = gather_over_model(gather_over_data(shards));
  if (data_.size * model_.size == 1) {
    // One matrix after the other: no more than one direction at a time.
    for (size_t i = 0; i < matrices_.size(); ++i) {
      const Array direction = direction_of(matrices_[i], scalars, gradients[i].tensor);
      descend(matrices_[i], direction.tensor.reshape({direction.tensor.elements()}));
    }
    return;
  }
  std::vector<Array> directions(matrices_.size());
  for (size_t i = 0; i < matrices_.size(); ++i) {
    if (!owns(matrices_[i])) continue;
    directions[i] = direction_of(matrices_[i], scalars, gradients[i].tensor);
    gradients[i] = Array{};
  }
  const std::vector<Array> runs = scatter_over_data(scatter_over_model(std::move(directions)));
  for (size_t i = 0; i < matrices_.size(); ++i) descend(matrices_[i], runs[i].tensor);
}

}  // namespace toroid
