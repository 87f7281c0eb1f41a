// What would make a simulated run fit, or go faster, found by simulating it.
#pragma once

#include <string>

#include "simulate/answer/answer.h"

namespace toroid::train {

// UserError where the step takes more memory than a chip has: what holds it, and what would make it fit.
void require_room(const config::RunConfig& run, const sim::Chip& chip, const Simulation& simulation,
                  const Plugins& plugins);

// A sentence: the one change of the config that gives the most tokens a second of those tried, with its gain,
// and what links twice as fast would give. Changes are judged by an estimate (estimate.h).
std::string what_would_help(const config::RunConfig& run, const sim::Chip& chip, const Simulation& simulation,
                            const Plugins& plugins, const AnswerOptions& options = {});

}  // namespace toroid::train
