// What a resumed run may not change unasked.
#pragma once

#include <string>
#include <vector>

#include "configs/run.pb.h"

namespace toroid::config {

// One line for each value that decides the weights and differs, "optim.adamw.beta1 was 0.9 and is 0.95";
// empty where `now` continues `saved`. The layout, remat, threads, length, logging and saving may change:
// they do not count.
std::vector<std::string> changes(const RunConfig& saved, const RunConfig& now);

}  // namespace toroid::config
