// Text without what controls a terminal.
#pragma once

#include <memory>
#include <string>

#include "data/filter/filter.h"

namespace toroid::config {
class FilterConfig;
}

namespace toroid {

// Removes ECMA-48 control sequences (ESC [ ... final, ESC ] ... BEL or ST, ESC x) and overstrikes: "X\bX" and
// "_\bX" become "X". Other C0 controls except newline, tab and form feed go too.
void strip_terminal_escapes(std::string& text);

std::unique_ptr<Filter> make_terminal_escapes_filter(const config::FilterConfig& config,
                                                     const std::string& path);

}  // namespace toroid
