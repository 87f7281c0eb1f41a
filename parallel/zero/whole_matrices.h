// Matrices that an update rule sees whole, although the ranks of a pod share them: each has one owner, who
// gets its gradient from those who hold parts of it, keeps its states and finds its direction, of which every
// rank gets its own part back. Two exchanges each way, along the data axis and along the model axis, serve
// all matrices at once; every rank of a group issues the same ones, and a matrix's parts travel as they are.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/comm/communicator.h"
#include "core/device/update_rule.h"
#include "parallel/zero/unit.h"

namespace toroid {

// Gives each of `work` to one of `ranks`: the heaviest first, each to the rank with the least so far, ties to
// the lowest. A function of its arguments alone.
std::vector<int> deal_evenly(std::span<const int64_t> work, int ranks);

UpdatedTensor updated(const TensorSpec& tensor);

class WholeMatrices {
 public:
  // `data`: the ranks that share the units' flat buffers; of size 1 where each has all of them.
  WholeMatrices(Device& device, const UpdateRule& rule, std::span<const Unit> units, Communicator& data,
                Communicator& model, Place data_place, UpdateNumerics numerics);

  // A rank's shard of a unit: elements [begin, end) of the flat buffer.
  struct Shard {
    int64_t begin = 0, end = 0;
    Tensor gradient, master;  // f32[end - begin]
  };
  void clear() const;  // zeros the states
  // Updates all whole matrices; `shards` has one for each unit.
  void update(const StepScalars& scalars, std::span<const Shard> shards);

  // The states that this rank keeps, whole, as their owner.
  struct Kept {
    size_t unit = 0, tensor = 0;
    std::string name;  // of the state
    Array values;      // f32[out, in]
  };
  const std::vector<Kept>& kept() const { return kept_; }

 private:
  struct Matrix {
    size_t unit = 0, tensor = 0;
    UpdatedTensor told;
    int data = 0, model = 0;     // the owner's places
    std::vector<Slice> slices;   // of each rank of the model axis
    std::vector<Tensor> states;  // kept_'s, of those that this rank owns
  };

  const Slice& slice(const Matrix& matrix) const;
  bool at_data_owner(const Matrix& matrix) const { return matrix.data == data_.rank; }
  bool owns(const Matrix& matrix) const { return at_data_owner(matrix) && matrix.model == model_.rank; }
  Run run_in(const Matrix& matrix, const Slice& part, int data_rank) const;
  Run run_of(const Matrix& matrix, int data_rank) const { return run_in(matrix, slice(matrix), data_rank); }
  Tensor in_part(const Matrix& matrix, const Tensor& part, const Run& run) const;
  Tensor part_in(const Matrix& matrix, const Tensor& whole, int model_rank) const;
  void launch(Call call, Phase phase) const;
  Array direction_of(const Matrix& matrix, const StepScalars& scalars, const Tensor& gradient) const;

  Array exchange(Communicator& group, Array sent, const char* what) const;
  std::vector<Array> gather_over_data(std::span<const Shard> shards);
  std::vector<Array> gather_over_model(std::vector<Array> parts);
  std::vector<Array> scatter_over_model(std::vector<Array> directions);
  std::vector<Array> scatter_over_data(std::vector<Array> parts);

  Device& device_;
  const UpdateRule& rule_;
  Communicator &data_group_, &model_group_;
  Place data_, model_;
  UpdateNumerics numerics_;
  std::vector<int64_t> flat_share_;  // elements of a rank's shard, by unit
  std::vector<Matrix> matrices_;
  // Elements of a block of each exchange: what the fullest needs, so that they are equal.
  int64_t data_block_ = 0, to_owner_block_ = 0, from_owner_block_ = 0;
  std::vector<Kept> kept_;
};

}  // namespace toroid
