// What is valid in a config and may yet not be meant.
#pragma once

#include <string>
#include <vector>

#include "train/config/load.h"
#include "train/engine/plugins.h"

namespace toroid::train {

// One sentence each, with what to do: a schedule that is over before the run is, and values that were derived
// from others which have changed since. For who is about to train; a config that is only read asks for none.
std::vector<std::string> warnings(const config::Resolved& resolved, const Plugins& plugins);

}  // namespace toroid::train
