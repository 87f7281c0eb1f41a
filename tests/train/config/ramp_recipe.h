// The smallest valid config with overrides, and a batch for it that grows twice.
#pragma once

#include <string>
#include <vector>

#include "tests/train/config/recipe_text.h"
#include "train/config/load.h"

namespace toroid::test {

inline config::RunConfig recipe(const std::vector<std::string>& overrides) {
  return config::load_text(recipe_text(), "recipe", overrides).run;
}

inline const std::string kRamp =
    "batch={ tokens_per_sequence: 16 ramp { global_sequences: 2 } ramp { step: 3 global_sequences: 4 } "
    "ramp { step: 5 global_sequences: 9 } }";

}  // namespace toroid::test
