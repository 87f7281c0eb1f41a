// What the rules of filters count: characters, words and lines. All text here is valid UTF-8.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace toroid {

bool is_letter(char32_t code);
bool is_punctuation(char32_t code);
bool is_space(char32_t code);  // line ends too

// Code points.
int64_t characters(std::string_view text);

inline double share(int64_t part, int64_t all) {
  return static_cast<double>(part) / static_cast<double>(all);
}

// Without white space at both ends.
std::string_view without_spaces(std::string_view text);

// What stands between white space.
std::vector<std::string_view> words_of(std::string_view text);

// Cut at every line end that Unicode knows (CR, LF, form feed, U+2028, ...); an end at the text's end begins
// no further line.
std::vector<std::string_view> lines_of(std::string_view text);

}  // namespace toroid
