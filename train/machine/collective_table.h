// The table of collectives as `toroid bench collectives --write` left it.
#pragma once

#include "core/base/io/file.h"
#include "core/device/sim/host.h"
#include "parallel/comm/choice.h"
#include "parallel/mesh/mesh.pb.h"
#include "train/config/load.h"

namespace toroid::train {

// $XDG_CACHE_HOME/toroid/collectives.textproto, beside the figures of `toroid doctor`.
Path collective_table_path();

// Replaces what the file has for groups like those of `rows`, and leaves the rest. `times`: of groups of
// `ranks_per_host` ranks on each host, like those of `rows`.
void write_collective_table(const Path& path, const std::vector<Choice>& rows,
                            const std::vector<sim::CollectiveTime>& times = {}, int ranks_per_host = 0);
// UserError with the row where the file is no such table.
config::CollectiveTable read_collective_table(const Path& path);
// What collectives of groups on one host took; empty where there is no file, or none that can be read (a
// warning).
std::vector<sim::CollectiveTime> read_collective_times(const Path& path = collective_table_path());

// Fills in mesh.collective from the file, with its origin, for the sizes of groups that the mesh has and of
// which the config has no row; they are ways of ranks on processors, and other devices take none. A file that
// is no such table is passed over with a warning; UserError where what the config says is none.
void add_collective_table(config::Resolved& resolved, const Path& path = collective_table_path());

}  // namespace toroid::train
