// A rank's report of what it wrote, as text for the rank that commits the step.
#pragma once

#include <string>

#include "train/checkpoint/step_writer.h"

namespace toroid {

// What is said of a rank that cannot save its part of a step.
std::string could_not_save(int rank, std::string_view why);

std::string report_text(const RankReport& report);
// UserError, naming the sender and the key, for anything that write_rank() on `sender` would not have
// reported.
RankReport parse_report(std::string_view text, CheckpointRank sender);

}  // namespace toroid
