// The state of a step on its way to a save that goes on behind the next steps: handed over through memory of
// the host that is made once, when the run begins.
#pragma once

#include <vector>

#include "train/checkpoint/byte_ring.h"
#include "train/checkpoint/checkpoint.h"
#include "train/step/step_program.h"

namespace toroid::train {

class SnapshotMemory {
 public:
  // For `share` (0, 1] of what this rank saves of `program`. It is the device's, held by "snapshot", where
  // that is the host's (`on_host`), and beside it else.
  SnapshotMemory(Device& device, StepProgram& program, double share, bool on_host);
  std::span<std::byte> bytes();

 private:
  Array on_device_;
  std::vector<std::byte> beside_;
};

// The slices of take_snapshot(), whose bytes come out of `ring` instead of the device.
std::vector<TensorSlice> out_of(ByteRing& ring, const std::vector<TensorSlice>& slices);
// Puts their bytes in, in the order of parts_in_order(); waits while the ring is full. SystemError where
// nobody takes them any more.
void stage(std::span<const TensorSlice> slices, ByteRing& ring);

}  // namespace toroid::train
