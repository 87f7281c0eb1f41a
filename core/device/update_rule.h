// What an optimizer is to those who hold the weights: the states it keeps for a tensor and the update
// operators it issues. The rules themselves are in optim/. Weights and gradients are f32, states too unless
// the rule says otherwise.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/base/random.h"
#include "core/device/device.h"
#include "core/op/stochastic.h"

namespace toroid {

// Scalars of the step, on the device (op::State and op::Control).
struct StepScalars {
  Tensor state, control;
};

// A tensor as a rule is told of it.
struct UpdatedTensor {
  std::string name;            // Hugging Face's
  Shape shape;                 // of the whole tensor; matrices are [out, in]
  bool decay = false;          // weight decay applies
  bool hidden = false;         // a matrix of a layer: not embedding, head or norm
  op::Rounding rounding = {};  // of states that are rounded: the tensor's bits, and where the run lies in it
};

// How a rule multiplies matrices.
struct UpdateNumerics {
  DType products = DType::f32;
  Tiles tiles;
};

// A tensor's elements go through one of two ways. Where the rule takes each element for itself, ranks that
// share the tensor update the runs that they hold. Where it sees the tensor whole, one rank of a pod, its
// owner, has all of its gradient and its states and finds the direction; every rank then descends along its
// own part of that. Owners follow from shapes and work() alone. A skipped step issues the same calls, and
// they change nothing that lasts.
class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  // Names of the states kept for every element, as checkpoints call them ("exp_avg"); they start at zero.
  virtual std::vector<std::string> states(const UpdatedTensor& tensor) const = 0;
  // Their type: f32, or bf16, which update() rounds stochastically. What is seen whole has f32.
  virtual DType state_type(const UpdatedTensor&) const { return DType::f32; }

  // Updates a run of `master` in place from as many elements of `gradient` (unclipped); all flat.
  virtual void update(Device& device, const StepScalars& scalars, const Tensor& gradient,
                      const Tensor& master, std::span<const Tensor> states,
                      const UpdatedTensor& tensor) const = 0;

  // Whether the rule sees the tensor, a matrix, whole.
  virtual bool whole(const UpdatedTensor&) const { return false; }
  // What finding its direction costs, in any unit: owners share it evenly.
  virtual int64_t work(const UpdatedTensor& tensor) const { return tensor.shape.elements(); }
  // gradient f32[out, in] (unclipped), states f32[out, in] -> direction [out, in] of the products' type.
  virtual void find_direction(Device& device, const StepScalars& scalars, const Tensor& gradient,
                              std::span<const Tensor> states, const Tensor& direction,
                              const UpdateNumerics& numerics) const;
  // Moves a run of `master` along the same run of the direction; both flat.
  virtual void descend(Device& device, const StepScalars& scalars, const Tensor& direction,
                       const Tensor& master, const UpdatedTensor& tensor) const;
};

}  // namespace toroid
