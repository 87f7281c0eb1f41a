// Text that came from outside is escaped before it reaches a terminal; names that nearly match are suggested.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace toroid {

// Control characters, escapes and invalid UTF-8 become visible (\n, \x1b, \xff); at most `limit` bytes are
// shown.
std::string printable(std::string_view text, size_t limit = 200);

// As printable, but newlines and tabs pass: for documents and generated text.
std::string printable_lines(std::string_view text);

// printable(text) between single quotes: names and values in error messages.
std::string in_quotes(std::string_view text, size_t limit = 500);

// The entry of `known` nearest to `name` by edit distance, or "" where none is near enough to be meant.
std::string did_you_mean(std::string_view name, std::span<const std::string> known);

// 1234567 -> "1,234,567"; 1536 -> "1.54 kB" (powers of ten).
std::string with_commas(int64_t value);
std::string human_bytes(int64_t bytes);

// 16 hexadecimal digits: how hashes are written.
std::string hex(uint64_t value);

}  // namespace toroid
