// A sweep as a picture: throughput and utilisation along one of its axes, a line for each combination of the
// others, and where the time of a step goes.
#pragma once

#include <string>

#include "simulate/answer/sweep.h"

namespace toroid::train {

// The most lines that one chart shows, and values along it.
inline constexpr size_t kMostLines = 8, kMostPoints = 200;

// UserError where a sweep over these axes would have more of either: before it runs.
void check_chart(const std::vector<SweepAxis>& axes);

// Self-contained. Along the axis with the most numbers, logarithmic where they reach over a factor of eight.
std::string sweep_svg(const Sweep& sweep);
// The picture with the table below it; `command` is printed as what made it.
std::string sweep_html(const Sweep& sweep, const std::string& command);

}  // namespace toroid::train
