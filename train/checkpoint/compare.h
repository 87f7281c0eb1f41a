// Two checkpoints beside each other, tensor by tensor, whatever their layouts. Memory does not grow with
// theirs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "train/checkpoint/checkpoint.h"

namespace toroid {

enum class Difference : uint8_t {
  none,    // equal hashes, and so not read; or equal as numbers, of different types
  values,  // of the same shape
  shape,
  only_a,
  only_b,
};

struct TensorDifference {
  std::string name, part;
  Difference kind = Difference::none;
  std::optional<CheckpointTensor> a, b;
  // Of Difference::values. An element that is not finite on one side, or on both in different ways, counts as
  // different and in not_finite alone.
  int64_t different = 0, not_finite = 0;
  double largest = 0;  // |a - b|
  int64_t index = 0;   // flat, of the largest
  double a_there = 0, b_there = 0;
  double norm_a = 0, norm_b = 0, norm_difference = 0;
  // |a - b| / |a|, 0 where both are zero.
  double relative() const { return norm_difference == 0 ? 0 : norm_difference / norm_a; }
};

// By part, then name; of `parts`, or of all where there are none. Tensors of equal hashes are read only where
// `read_all` is set. UserError where the bytes of one that is read are not those that were saved.
std::vector<TensorDifference> compare_tensors(CheckpointReader& a, CheckpointReader& b,
                                              const std::vector<std::string>& parts = {},
                                              bool read_all = false);

struct ValueDifference {
  std::string name;                 // "step", "counters.updates", "config"
  std::optional<std::string> a, b;  // nothing: it is not there
};

// All that is not a tensor and not lineage: step, data position, counters, scalars, texts. The config is left
// to whoever knows its fields.
std::vector<ValueDifference> compare_states(const CheckpointState& a, const CheckpointState& b);

}  // namespace toroid
