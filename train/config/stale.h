// Values that were derived once, as a stored config says of them, and that what they came from has left
// behind.
#pragma once

#include <string>
#include <vector>

#include "train/config/load.h"

namespace toroid::config {

struct StaleValue {
  std::string path, value;
  std::string source, source_value;  // what it was derived from, and what that is now
  std::string derived;               // what would be derived now; empty: it would not be set
};

// A value whose origin is "from PATH" and that would be another if it were left out. It keeps what it has,
// since it may decide the weights; who changed PATH is to say what is meant.
std::vector<StaleValue> stale_values(const Resolved& resolved);

// One sentence with what to do about it.
std::string to_text(const StaleValue& stale);

}  // namespace toroid::config
