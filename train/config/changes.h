// A config's values, and which of them a resumed run or a rank may have for itself.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "configs/run.pb.h"

namespace toroid::config {

struct NamedValue {
  std::string path, text;  // "optim.adamw.beta1", "0.9"
};

// Every value that is set, in the order of the fields' numbers.
std::vector<NamedValue> values(const RunConfig& run);

// Whether a resumed run may have another value of `path` unasked: layout, remat, threads, length, logging and
// saving do not decide the weights.
bool may_change(std::string_view path);

// Whether the ranks of a run may have different values of `path`: threads, what the first rank alone does,
// and places, of whose contents hashes are compared.
bool may_differ(std::string_view path);

}  // namespace toroid::config
