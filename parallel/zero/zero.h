// Who holds what of a unit, and when: master weights, optimizer states, gradients, and the packed copy that
// products read. On one chip (a group of one) the copy is made once per optimizer step and stays.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/model/context.h"
#include "core/op/update_rule.h"
#include "parallel/zero/unit.h"

namespace toroid {

struct ZeroOptions {
  DType compute = DType::bf16;
  double ema_decay = 0;  // 0: no average is kept
  bool training = true;  // false: no gradients and no optimizer states (generation)
  Tiles tiles;
};

// One tensor of one part ("master", "exp_avg", ..., "ema"), for checkpoints and tests.
struct NamedTensor {
  std::string name, part;
  Tensor tensor;  // f32, in its own shape
};

class Zero {
 public:
  Zero(Device& device, std::vector<UnitSpec> specs, const UpdateRule& optimizer, ZeroOptions options);

  // Draws every master weight from its counter-based generator; states become zero.
  void initialise(uint64_t seed, int64_t d_model);
  // Makes the packed copies anew, after masters have changed.
  void pack();

  const std::vector<Unit>& units() const { return units_; }
  const Weights& weights(int unit) const { return live_[static_cast<size_t>(unit)]; }
  std::span<Gradient> gradients(int unit) { return gradients_[static_cast<size_t>(unit)]; }

  void begin_step();
  // Adds microbatch `index`'s gradients to the step's: in place in the fast mode, with a binary counter in
  // deterministic mode, so that the tree over microbatches does not depend on how they are dealt.
  void begin_microbatch(int64_t index);
  void end_microbatch(int64_t index);
  // Sums of squares of all gradient blocks, in the order of the units.
  Tensor gradient_partials();
  void update(const StepScalars& scalars);

  std::vector<NamedTensor> parts() const;
  std::vector<NamedTensor> gradient_tensors() const;  // of the step, before clipping

 private:
  struct Flat {
    Array master, ema;
    std::vector<Array> states;
    std::vector<Array> pending;  // gradients by level of the binary counter; [0] alone in the fast mode
    Array norms;                 // compute-type copies of the tensors that are not matrices
  };
  Tensor slice(const Array& flat, const Unit& unit, size_t tensor) const;
  void launch(Call call, Phase phase);
  void point_gradients(size_t unit, const Array& flat, bool fresh);
  void merge(size_t unit);

  Device& device_;
  const UpdateRule& optimizer_;
  ZeroOptions options_;
  std::vector<Unit> units_;
  std::vector<Flat> flats_;
  std::vector<Weights> live_;
  std::vector<std::vector<Array>> packed_;
  std::vector<std::vector<Gradient>> gradients_;
  Array partials_;
  int64_t last_microbatch_ = 0;
};

}  // namespace toroid
