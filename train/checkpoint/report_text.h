// A rank's report of what it wrote, as text for the rank that commits the step.
#pragma once

#include <string>

#include "train/checkpoint/step_writer.h"

namespace toroid {

std::string report_text(const RankReport& report);
// `origin` names the sender in errors (UserError).
RankReport parse_report(std::string_view text, const std::string& origin);

}  // namespace toroid
