// Fills in what a config leaves out, so that what is stored and printed says everything.
#pragma once

#include <optional>
#include <string>

#include "train/config/load.h"

namespace toroid::config {

// First the values that follow from others (kv_heads from heads, a schedule's steps from train.steps), then
// the defaults. `data` stays absent where it is: a config without data trains on nothing but synthetic
// tokens.
void resolve(RunConfig& run, Origins& origins);

// The origin of a value that follows from the one at `path`, and the path that such an origin names.
std::string derived_from(const std::string& path);
std::optional<std::string> source_of(const std::string& origin);

}  // namespace toroid::config
