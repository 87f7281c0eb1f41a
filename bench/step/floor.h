// The floor of a step on one machine: what products, attention and unavoidable bytes cost at measured rates.
// The formula is the same for every program (docs/performance.md); recomputation, copies and waiting are not
// in it.
#pragma once

#include <string>
#include <vector>

#include "core/device/device.h"
#include "train/step/step_program.h"

namespace toroid::train {

struct FloorTerm {
  std::string name;
  double work = 0;  // FLOPs or bytes
  double rate = 0;  // of them a second
  double seconds() const { return rate > 0 ? work / rate : 0; }
};

struct Floor {
  std::vector<FloorTerm> terms;
  double best_flops = 0;  // best product rate seen: the peak of MFU
  double bandwidth = 0;   // triad, bytes/s
  double spread = 0;      // of the rounds of the rate whose rounds differ most (best_of.h)
  double seconds() const;
};

// Measures `device` in rounds (some ten seconds for a model of 100 M parameters): each rate is its best
// round's.
Floor measure_floor(Device& device, int threads, const DecoderConfig& config, const StepOptions& options);

}  // namespace toroid::train
