// Where ranks may differ in what they were given, what the first rank was given goes for all.
#pragma once

#include <string>

#include "core/base/io/file.h"
#include "train/checkpoint/checkpoint.h"
#include "train/ranks/meeting.h"
#include "train/train.pb.h"

namespace toroid::train {

struct TraceRequest {
  Path file;  // empty: nothing is recorded
  config::TraceConfig window;
};
// The first rank's. Collective.
TraceRequest agreed_trace(Meeting& ranks, const TraceRequest& mine);

// The step that the first rank takes of `resume`, which it verifies, opened by this rank in its own `resume`.
// Collective; RanksDisagree where it is not the same step everywhere.
CheckpointReader open_resumed(Meeting& ranks, const Path& resume);

// What the first rank says of the run directory that it has claimed, and where this rank, which was told
// `mine`, finds it: at the first rank's path, unless its own leads there. UserError where neither does.
std::string describe_claimed(const Path& directory);
Path find_claimed(const Path& mine, const std::string& described);

}  // namespace toroid::train
