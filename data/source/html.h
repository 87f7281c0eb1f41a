// The text of an HTML document: what a reader sees, without menus and scripts.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>

namespace toroid {

struct HtmlOptions {
  // Elements with one of these words as class or id are dropped with all they hold.
  std::unordered_set<std::string> drop;
  // Keep nav, header, footer, aside, form and button.
  bool keep_page_furniture = false;
};

// Numeric character references to no character (half a surrogate pair, NUL, beyond U+10FFFF), which the
// parser would leave out without a word, become U+FFFD, as HTML's standard has it. Returns how many.
int64_t replace_bad_references(std::string& html);

// Block elements give line breaks, paragraphs blank lines, list items "- ", cells tabs; <pre> is kept as it
// is, other white space is folded, character references are decoded. `source` is UTF-8 whatever its <meta>
// says. Nothing where the nesting is so deep, with so many end tags, that reading would take minutes (the
// parser walks the open elements for each end tag).
std::optional<std::string> html_text(std::string_view source, const HtmlOptions& options = {});

}  // namespace toroid
