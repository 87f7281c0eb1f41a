// incidents.jsonl of a run directory: what went wrong, a line each, by whoever found it. Processes of a run
// append to it side by side.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/base/io/file.h"

namespace toroid::train {

struct Incident {
  std::string kind;      // "corruption"
  std::string detector;  // "memory"
  int rank = -1;         // whose it is; -1: not known
  std::string host;
  int64_t step = 0;  // in or before which it was found
  std::string what;
  std::optional<bool> lasting;  // nothing: not known
};

// Appends a line, with the time, in one write that is on the disk when this returns. SystemError where that
// fails.
void append_incident(const Path& run_directory, const Incident& incident);

}  // namespace toroid::train
