// The machine's figures as `toroid doctor` left them.
#pragma once

#include <optional>

#include "core/base/io/file.h"
#include "core/device/sim/host.h"
#include "core/tensor/dtype.h"
#include "train/machine/host.pb.h"

namespace toroid::train {

// $XDG_CACHE_HOME/toroid/host.textproto, or ~/.cache/... where that is unset or relative; below /tmp where
// HOME is so too.
Path machine_figures_path();

// Nothing where doctor has not run, or where the file is not one of its files (a warning says so).
std::optional<config::MachineFigures> read_machine_figures();

// Whole or not at all; SystemError where that fails.
void write_machine_figures(const config::MachineFigures& figures);

void add_operator(config::MachineFigures& figures, const std::string& kind, DType type, int threads,
                  const sim::OperatorFigure& figure);
// Those that were measured with this type on this many threads, by kind. UserError where one is no figure,
// with its place and what it may be.
std::map<std::string, sim::OperatorFigure, std::less<>> operators_of(const config::MachineFigures& figures,
                                                                     DType type, int64_t threads);

}  // namespace toroid::train
