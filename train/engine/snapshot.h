// A step program's state in and out of checkpoints: masters, optimizer states and average by name, the
// device's scalars.
#pragma once

#include <vector>

#include "train/checkpoint/checkpoint.h"
#include "train/step/step_program.h"

namespace toroid::train {

// Scalars and counters that only the device knows, added to `state`; the tensors are returned as slices of
// host memory that `copies` owns where the device's memory is not the host's.
std::vector<TensorSlice> take_snapshot(Device& device, StepProgram& program, CheckpointState& state,
                                       std::vector<std::vector<std::byte>>& copies);

// Everything back. UserError where a tensor is missing or has another shape.
void restore_snapshot(Device& device, StepProgram& program, CheckpointReader& checkpoint);

// Masters alone (`part` "master" or "ema"), into a program that has been initialised: imported weights,
// generation.
void restore_weights(Device& device, Zero& zero, CheckpointReader& checkpoint, const std::string& part);

}  // namespace toroid::train
