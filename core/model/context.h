// What every stage is handed: the device, the numeric mode and the axis that splits the model.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "core/comm/communicator.h"
#include "core/device/device.h"
#include "core/model/decoder_config.h"

namespace toroid {

inline constexpr std::string_view kTemporary = "temporaries";  // who holds what a stage is done with

struct Context {
  Device& device;
  Communicator& model;  // the model axis; a group of one where the model is whole
  DType compute = DType::bf16;
  Tiles tiles;  // of deterministic mode
  Phase phase = Phase::forward;
  Wire model_wire = Wire::exact;  // of partial sums along the model axis

  // Issues `call` in this context's phase; `slices` > 1 cuts its contraction in deterministic mode.
  void launch(Call call, int64_t slices = 1) const;
  Array array(Shape shape, std::string_view holder) const { return device.array(compute, shape, holder); }
  Array array_f32(Shape shape, std::string_view holder) const {
    return device.array(DType::f32, shape, holder);
  }
};

// A matrix group of a unit, ready for products.
struct PackedMatrix {
  Tensor forward, backward;  // the whole group
  std::vector<Tensor>
      backward_parts;  // deterministic mode: each matrix on its own, since each is a tree of its own
};

// A unit while it is live.
struct Weights {
  std::vector<Tensor>
      tensors;  // plain, in the order of the unit; matrices only where a stage reads rows of them
  std::vector<PackedMatrix> packs;
};

// Where the gradient of a tensor goes: fp32. `fresh`: nothing has been added yet, overwrite.
struct Gradient {
  Tensor tensor;
  bool fresh = true;
};

// Clears a fresh gradient whose kernel can only add; afterwards it is not fresh.
void begin_adding(const Context& c, Gradient& gradient);

// One microbatch's operands, all on the device. M = B T tokens.
struct Microbatch {
  int64_t sequences = 0, tokens = 0;  // B, T
  Tensor ids, targets, positions,
      starts;                      // i32[M]; target -1: no loss; starts: first visible key of the sequence
  Tensor scale;                    // f32[1]: one over the step's target count
  Tensor rope_global, rope_local;  // f32[M, H]
  int64_t rows() const { return sequences * tokens; }
};

}  // namespace toroid
