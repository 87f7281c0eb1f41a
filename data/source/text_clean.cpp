#include "data/source/text_clean.h"

#include <algorithm>

#include "core/base/utf8.h"

namespace toroid {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

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

}  // namespace

bool looks_binary(std::string_view bytes) {
  return bytes.substr(0, 8192).find('\0') != std::string_view::npos;
}

size_t repair_utf8(std::string& text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);
  if (text.find('\0') == std::string::npos && valid_utf8(text)) return 0;
  std::string out;
  out.reserve(text.size());
  size_t replaced = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t length = text[i] == '\0' ? 0 : decode_character(std::string_view(text).substr(i)).length;
    if (length == 0) {
      out += kReplacement, ++replaced, ++i;
    } else {
      out.append(text, i, length), i += length;
    }
  }
  text = std::move(out);
  return replaced;
}

void unix_line_ends(std::string& text) {
  if (text.find('\r') == std::string::npos) return;
  size_t to = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      text[to++] = text[i];
    } else if (i + 1 >= text.size() || text[i + 1] != '\n') {
      text[to++] = '\n';
    }
  }
  text.resize(to);
}

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

void tidy_blank_space(std::string& text) {
  std::string out;
  out.reserve(text.size());
  size_t newlines = 2;  // as if a blank line came before: none is kept at the start
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    size_t last = end;
    while (last > begin && (text[last - 1] == ' ' || text[last - 1] == '\t' || text[last - 1] == '\f'))
      --last;
    if (last > begin) {
      out.append(text, begin, last - begin);
      newlines = 0;
    }
    if (newlines < 2) out += '\n', ++newlines;
    begin = end + 1;
  }
  while (out.ends_with("\n\n")) out.pop_back();
  if (out == "\n") out.clear();
  text = std::move(out);
}

}  // namespace toroid
