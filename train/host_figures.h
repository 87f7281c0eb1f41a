// The machine's figures as `toroid doctor` left them.
#pragma once

#include <optional>

#include "configs/host.pb.h"
#include "core/base/io/file.h"

namespace toroid::train {

// $XDG_CACHE_HOME/toroid/host.textproto, or ~/.cache/... where that is unset.
Path host_figures_path();

// Nothing where doctor has not run, or where the file is not one of its files (a warning says so).
std::optional<config::HostFigures> read_host_figures();

}  // namespace toroid::train
