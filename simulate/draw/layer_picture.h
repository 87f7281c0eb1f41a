// One layer's forward and backward pass on the first chip as a picture: what its compute queue does, where it
// waits, and what travels beside it.
#pragma once

#include <string>

#include "simulate/play/player.h"

namespace toroid::train {

// `played` with spans, whose records still exist; the first microbatch's. UserError where layer `layer` has
// no collectives on the model axis, by which its pass is found.
std::string layer_svg(const sim::Played& played, int64_t layer, const std::string& title);

}  // namespace toroid::train
