// The first chip's step as a Chrome/Perfetto trace: a row for each of its queues and for each kind of link.
#pragma once

#include "core/base/io/file.h"
#include "simulate/play/network.h"
#include "simulate/play/player.h"

namespace toroid::train {

// `played` with spans, whose records still exist.
void write_timeline(const Path& file, const sim::Played& played, sim::Network& network);

}  // namespace toroid::train
