#include "data/filter/terminal_escapes.h"

#include <string_view>

#include "core/base/utf8.h"

namespace toroid {
namespace {

// Index after the control sequence that starts with the ESC at text[at].
size_t skip_escape(std::string_view text, size_t at) {
  size_t i = at + 1;
  if (i >= text.size()) return i;
  const auto in = [&](size_t j, char low, char high) {
    return j < text.size() && text[j] >= low && text[j] <= high;
  };
  if (text[i] == '[') {
    ++i;
    while (in(i, 0x30, 0x3F)) ++i;
    while (in(i, 0x20, 0x2F)) ++i;
    return in(i, 0x40, 0x7E) ? i + 1 : i;
  }
  if (text[i] == ']') {  // ends at BEL or ESC \, at the latest with its line
    for (++i; i < text.size() && text[i] != '\n'; ++i) {
      if (text[i] == '\a') return i + 1;
      if (text[i] == '\x1B' && i + 1 < text.size() && text[i + 1] == '\\') return i + 2;
    }
    return i;
  }
  while (in(i, 0x20, 0x2F)) ++i;
  return in(i, 0x30, 0x7E) ? i + 1 : i;
}

class TerminalEscapes final : public Filter {
 public:
  Verdict apply(Document& document) const override {
    strip_terminal_escapes(document.text);
    return {};
  }
};

}  // namespace

void strip_terminal_escapes(std::string& text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '\x1B') {
      i = skip_escape(text, i);
    } else if (c == '\b') {
      // The character before is overstruck by the one after; keep the latter. At a line's start there is
      // none.
      while (!out.empty() && continues_character(out.back())) out.pop_back();
      if (!out.empty() && out.back() != '\n') out.pop_back();
      ++i;
    } else if ((static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' && c != '\f') || c == 0x7F) {
      ++i;
    } else {
      out += c, ++i;
    }
  }
  text = std::move(out);
}

std::unique_ptr<Filter> make_terminal_escapes_filter(const config::FilterConfig&, const std::string&) {
  return std::make_unique<TerminalEscapes>();
}

}  // namespace toroid
