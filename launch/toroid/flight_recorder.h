// What the ranks of this machine did last, read from the memory that they shared once they are gone: the
// board (parallel/comm/board) stays in the job's directory until the launcher takes that away.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/io/file.h"

namespace toroid::launch {

struct FlightRecord {
  std::string text;       // a paragraph a rank, its last calls of each group, the latest first
  std::vector<int> late;  // ranks that others waited for in a collective, and that waited for nobody
};
// Nothing where the ranks have left no board, or one of another size than a board's.
std::optional<FlightRecord> read_flight_record(const Path& job_directory);

// hang-report-TIME.txt in the run's directory: how the job ended, who was late, and the record. Its name, or
// "" where it cannot be written, which is logged.
std::string write_hang_report(const Path& run, const std::string& how, const FlightRecord& record);

}  // namespace toroid::launch
