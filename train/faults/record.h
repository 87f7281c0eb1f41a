// faults.jsonl of a run: what has happened, so that it happens once, whatever restarts follow. A line a
// fault, appended and synced by the rank that it befalls before it does.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "core/base/io/file.h"
#include "train/faults/plan.h"

namespace toroid::faults {

inline constexpr const char* kRecord = "faults.jsonl";

// The ids of those recorded; a last line that was cut short does not count. UserError for a file that is
// larger than any record.
std::set<std::string> recorded(const Path& run);

// SystemError where it cannot be made durable.
void record(const Path& run, const Planned& fault, int64_t step);

}  // namespace toroid::faults
