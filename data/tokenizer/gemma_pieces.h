// Pieces that Gemma's vocabulary has whatever the text is. Private to this folder.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace toroid {

inline constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581, which stands for a space in pieces

// In three groups; the vocabulary holds each group's opening and then its closing elements.
inline std::vector<std::vector<std::string>> html_elements() {
  return {{"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"},
          {"h1", "h2", "h3", "h4", "h5", "h6", "blockquote"},
          {"strong", "em", "b", "i", "u", "s", "sub", "sup", "code"}};
}

}  // namespace toroid
