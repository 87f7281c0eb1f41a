// Text with numbers in it is fmt's, which comes with spdlog: fmt::format("{:.2f} s", seconds).
#pragma once

#include <spdlog/fmt/fmt.h>
