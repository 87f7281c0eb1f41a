// A run's directory: config.textproto, metrics.jsonl, checkpoints/step-N.
#pragma once

#include <string>

#include "core/base/io/file.h"

namespace toroid::train {

// Whether `directory` holds a run (its config or a checkpoint).
bool holds_run(const Path& directory);

// Makes `directory` ready for a run with this config text. A run that is there is an error (UserError) unless
// `again`, which removes its files, or `resumed`, which continues it.
void claim_run_directory(const Path& directory, const std::string& config_text, bool again, bool resumed);

}  // namespace toroid::train
