// Times the kinds of operators of a training step: for the chip `host` of the simulator, by `toroid doctor`.
#pragma once

#include <map>
#include <string>

#include "core/device/sim/host.h"
#include "core/tensor/dtype.h"

namespace toroid::train {

// What each kind takes on `threads` threads in a step that computes in `type` (bf16 or f32): figures fitted
// to the steps of four small models that differ in width, heads, rows and vocabulary, `repetitions` of each
// after one to warm up. About a second a repetition on two cores with bf16 instructions.
struct MeasuredOperators {
  std::map<std::string, sim::OperatorFigure> figures;
  double spread = 0;  // of the model whose steps differ most (best_of.h)
};
MeasuredOperators measure_operators(DType type, int threads, int repetitions);

}  // namespace toroid::train
