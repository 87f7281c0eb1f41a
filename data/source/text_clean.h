// From bytes to clean text: valid UTF-8 without NUL, Unix line ends, no terminal control.
#pragma once

#include <string>
#include <string_view>

namespace toroid {

// A NUL among the first 8 KiB: what git and grep call a binary file.
bool looks_binary(std::string_view bytes);

// Every byte that is not part of well-formed UTF-8, and every NUL, becomes U+FFFD; a leading byte-order mark
// goes. Returns the number of bytes replaced.
size_t repair_utf8(std::string& text);

// CR LF and lone CR become LF.
void unix_line_ends(std::string& text);

// Removes ECMA-48 control sequences (ESC [ ... final, ESC ] ... BEL or ST, ESC x) and overstrikes: "X\bX" and
// "_\bX" become "X". Other C0 controls except newline, tab and form feed go too.
void strip_terminal_escapes(std::string& text);

// For prose: trailing blanks of lines go, runs of more than two newlines become two, blank lines at both ends
// go.
void tidy_blank_space(std::string& text);

}  // namespace toroid
