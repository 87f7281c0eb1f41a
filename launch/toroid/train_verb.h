// `toroid train` as `toroid launch` calls it where no rank is needed.
#pragma once

#include "core/base/error.h"
#include "launch/toroid/train_flags.h"
#include "train/engine/plugins.h"

namespace toroid::launch {

ExitCode train_verb(const TrainFlags& flags, const train::Plugins& plugins);

}  // namespace toroid::launch
