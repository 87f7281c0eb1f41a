// libxml2's parser for HTML, in SAX mode: no tree is built, so depth costs neither stack nor memory. (Gumbo
// reads HTML5 by the book, but takes minutes over some files of 400 kB and frees its tree recursively.)
#include "data/source/html.h"

#include <libxml/HTMLparser.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <memory>
#include <utility>

#include "core/base/error.h"

namespace toroid {
namespace {

constexpr size_t kParserChunk = size_t{1} << 14;
// The parser looks for an end tag's element among all that are open. Bounds of (end tags) x (open elements),
// for those that seem to close nothing and for all: seconds. 100,000 nested elements, all closed, are within
// them.
constexpr int64_t kMaximumSearch = 1'000'000'000;
constexpr int64_t kMaximumWork = 6'000'000'000;

enum class Kind : uint8_t {
  plain,
  dropped,
  furniture,
  paragraph,
  line,
  item,
  cell,
  preformatted,
  line_break
};

struct Element {
  std::string_view name;
  Kind kind;
};

// Sorted by name. Elements that are not here neither break lines nor hide what they hold.
constexpr Element kElements[] = {
    {"address", Kind::line},
    {"applet", Kind::dropped},
    {"article", Kind::paragraph},
    {"aside", Kind::furniture},
    {"audio", Kind::dropped},
    {"blockquote", Kind::paragraph},
    {"br", Kind::line_break},
    {"button", Kind::furniture},
    {"canvas", Kind::dropped},
    {"caption", Kind::paragraph},
    {"center", Kind::line},
    {"dd", Kind::line},
    {"details", Kind::paragraph},
    {"div", Kind::line},
    {"dl", Kind::paragraph},
    {"dt", Kind::line},
    {"fieldset", Kind::paragraph},
    {"figcaption", Kind::line},
    {"figure", Kind::paragraph},
    {"footer", Kind::furniture},
    {"form", Kind::furniture},
    {"frameset", Kind::dropped},
    {"h1", Kind::paragraph},
    {"h2", Kind::paragraph},
    {"h3", Kind::paragraph},
    {"h4", Kind::paragraph},
    {"h5", Kind::paragraph},
    {"h6", Kind::paragraph},
    {"head", Kind::dropped},
    {"header", Kind::furniture},
    {"hr", Kind::paragraph},
    {"iframe", Kind::dropped},
    {"li", Kind::item},
    {"listing", Kind::preformatted},
    {"main", Kind::paragraph},
    {"menu", Kind::paragraph},
    {"nav", Kind::furniture},
    {"noscript", Kind::dropped},
    {"object", Kind::dropped},
    {"ol", Kind::paragraph},
    {"p", Kind::paragraph},
    {"pre", Kind::preformatted},
    {"script", Kind::dropped},
    {"section", Kind::paragraph},
    {"select", Kind::dropped},
    {"style", Kind::dropped},
    {"summary", Kind::line},
    {"svg", Kind::dropped},
    {"table", Kind::paragraph},
    {"td", Kind::cell},
    {"template", Kind::dropped},
    {"textarea", Kind::dropped},
    {"th", Kind::cell},
    {"title", Kind::dropped},
    {"tr", Kind::line},
    {"ul", Kind::paragraph},
    {"video", Kind::dropped},
    {"xmp", Kind::preformatted},
};
static_assert(std::is_sorted(std::begin(kElements), std::end(kElements),
                             [](const Element& a, const Element& b) { return a.name < b.name; }));

Kind kind_of(std::string_view name) {
  const auto* const at =
      std::lower_bound(std::begin(kElements), std::end(kElements), name,
                       [](const Element& e, std::string_view wanted) { return e.name < wanted; });
  return at != std::end(kElements) && at->name == name ? at->kind : Kind::plain;
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

// Receives the parser's events and writes the text.
class Writer {
 public:
  explicit Writer(const HtmlOptions& options) : options_(options) {}

  void start(std::string_view name, const xmlChar** attributes) {
    ++depth_;
    if (dropped_at_ != 0) return;
    const Kind kind = kind_of(name);
    if (kind == Kind::dropped || (kind == Kind::furniture && !options_.keep_page_furniture) ||
        unwanted(attributes)) {
      dropped_at_ = depth_;
      if (kind != Kind::plain) break_lines(1);
      return;
    }
    if (name == "tr") in_row_ = cell_begins_ = false;
    switch (kind) {
      case Kind::furniture:
      case Kind::paragraph:
        break_lines(2);
        break;
      case Kind::preformatted:
        break_lines(2);
        if (pre_at_ == 0) pre_at_ = depth_;
        after_pre_ = true;
        break;
      case Kind::line:
      case Kind::line_break:
        break_lines(1);
        break;
      case Kind::item:
        break_lines(1);
        bullet_ = true;
        break;
      case Kind::cell:
        // A row is one line even where its cells hold paragraphs.
        if (in_row_) lines_ = 0, cell_ = true;
        in_row_ = cell_begins_ = true;
        break;
      case Kind::plain:
      case Kind::dropped:
        break;
    }
    if (kind == Kind::line_break && pre_at_ != 0) out_ += '\n', lines_ = 0;
  }

  void end(std::string_view name) {
    const int64_t depth = depth_--;
    ++closed_;
    if (dropped_at_ != 0) {
      if (dropped_at_ == depth) dropped_at_ = 0;
      return;
    }
    if (pre_at_ == depth) pre_at_ = 0;
    if (name == "tr" && in_row_) lines_ = 0;  // what the last cell's paragraph asked for
    switch (kind_of(name)) {
      case Kind::furniture:
      case Kind::paragraph:
      case Kind::preformatted:
        break_lines(2);
        break;
      case Kind::item:
      case Kind::line:
        break_lines(1);
        break;
      default:
        break;
    }
  }

  void text(std::string_view s) {
    if (dropped_at_ != 0) return;
    if (after_pre_ && !s.empty()) {  // HTML ignores one newline after <pre>
      if (s.front() == '\n') s.remove_prefix(1);
      after_pre_ = false;
    }
    for (size_t i = 0; i < s.size(); ++i) {
      char c = s[i];
      if (c == '\xC2' && i + 1 < s.size() && (s[i + 1] == '\xA0' || s[i + 1] == '\xAD')) {
        ++i;
        if (s[i] == '\xAD') continue;  // soft hyphen
        c = ' ';                       // no-break space
      }
      if (pre_at_ != 0) {
        flush();
        out_ += c;
      } else if (is_space(c)) {
        space_ = true;
      } else {
        flush();
        out_ += c;
      }
    }
  }

  int64_t depth() const { return depth_; }
  // Elements closed since the last call.
  int64_t take_closed() { return std::exchange(closed_, 0); }
  std::string take() { return std::move(out_); }

 private:
  void break_lines(int lines) {
    if (pre_at_ != 0 || cell_begins_) return;
    lines_ = std::max(lines_, lines);
    space_ = cell_ = false;
  }

  // Writes the white space that is due before the next character.
  void flush() {
    if (lines_ > 0) {
      while (!out_.empty() && (out_.back() == ' ' || out_.back() == '\t')) out_.pop_back();
      if (!out_.empty()) {
        // What a <pre> ended with counts.
        int have = 0;
        while (have < lines_ && out_.size() > static_cast<size_t>(have) &&
               out_[out_.size() - 1 - static_cast<size_t>(have)] == '\n') {
          ++have;
        }
        out_.append(static_cast<size_t>(lines_ - have), '\n');
      }
    } else if (cell_ && !out_.empty() && out_.back() != '\n') {
      out_ += '\t';
    } else if (space_ && !out_.empty() && out_.back() != '\n' && out_.back() != '\t') {
      out_ += ' ';
    }
    if (bullet_) out_ += "- ";
    lines_ = 0;
    space_ = cell_ = bullet_ = cell_begins_ = false;
  }

  // Whether class or id has a word that the options drop.
  bool unwanted(const xmlChar** attributes) const {
    if (options_.drop.empty() || attributes == nullptr) return false;
    for (; attributes[0] != nullptr; attributes += 2) {
      const std::string_view name = reinterpret_cast<const char*>(attributes[0]);
      if ((name != "class" && name != "id") || attributes[1] == nullptr) continue;
      const std::string_view words = reinterpret_cast<const char*>(attributes[1]);
      for (size_t begin = 0; begin < words.size();) {
        const size_t end = std::min(words.find_first_of(" \t\n\r\f", begin), words.size());
        if (options_.drop.count(std::string(words.substr(begin, end - begin))) != 0) return true;
        begin = end + 1;
      }
    }
    return false;
  }

  const HtmlOptions& options_;
  std::string out_;
  int64_t depth_ = 0, closed_ = 0;
  int64_t dropped_at_ = 0, pre_at_ = 0;  // depth of the element that began it; 0: none
  int lines_ = 0;                        // newlines due
  bool space_ = false, cell_ = false, bullet_ = false, after_pre_ = false;
  bool in_row_ = false;       // a cell of this row has begun
  bool cell_begins_ = false;  // and nothing of it is written yet
};

Writer& writer(void* context) {
  return *static_cast<Writer*>(context);
}
std::string_view view(const xmlChar* s) {
  return reinterpret_cast<const char*>(s);
}

void on_start(void* context, const xmlChar* name, const xmlChar** attributes) {
  writer(context).start(view(name), attributes);
}
void on_end(void* context, const xmlChar* name) {
  writer(context).end(view(name));
}
void on_text(void* context, const xmlChar* s, int length) {
  writer(context).text({reinterpret_cast<const char*>(s), static_cast<size_t>(length)});  // not terminated
}

struct FreeParser {
  void operator()(htmlParserCtxtPtr parser) const { htmlFreeParserCtxt(parser); }
};

int64_t end_tags(std::string_view html) {
  int64_t count = 0;
  for (size_t at = html.find("</"); at != std::string_view::npos; at = html.find("</", at + 2)) ++count;
  return count;
}

// PHP and XML instructions end at "?>"; the parser would end them at the first '>' within.
std::string without_instructions(std::string_view html) {
  std::string out;
  size_t at = 0;
  for (;;) {
    const size_t begin = html.find("<?", at);
    const size_t end = begin == std::string_view::npos ? begin : html.find("?>", begin + 2);
    if (end == std::string_view::npos) break;
    out.append(html.substr(at, begin - at));
    at = end + 2;
  }
  out.append(html.substr(at));
  return out;
}

}  // namespace

int64_t replace_bad_references(std::string& html) {
  int64_t replaced = 0;
  std::string out;
  size_t copied = 0;
  for (size_t begin = html.find("&#"); begin != std::string::npos; begin = html.find("&#", begin + 2)) {
    size_t at = begin + 2;
    const bool hexadecimal = at < html.size() && (html[at] == 'x' || html[at] == 'X');
    if (hexadecimal) ++at;
    const size_t digits = at;
    uint32_t c = 0;
    for (; at < html.size(); ++at) {
      const auto d = static_cast<unsigned char>(html[at]);
      const bool letter = hexadecimal && std::isxdigit(d) != 0;
      if (std::isdigit(d) == 0 && !letter) break;
      const uint32_t digit = std::isdigit(d) != 0 ? d - '0' : (d | 0x20u) - 'a' + 10;
      c = std::min<uint32_t>(c * (hexadecimal ? 16 : 10) + digit, 0x110000);
    }
    if (at == digits || !(c == 0 || (c >= 0xD800 && c < 0xE000) || c > 0x10FFFF)) continue;
    if (at < html.size() && html[at] == ';') ++at;
    out.append(html, copied, begin - copied).append("\xEF\xBF\xBD");
    copied = at;
    ++replaced;
  }
  if (replaced > 0) html = out.append(html, copied);
  return replaced;
}

std::optional<std::string> html_text(std::string_view source, const HtmlOptions& options) {
  std::string stripped;
  std::string_view html = source;
  if (source.find("<?") != std::string_view::npos) html = stripped = without_instructions(source);
  htmlSAXHandler handler{};
  handler.startElement = on_start;
  handler.endElement = on_end;
  handler.characters = on_text;
  handler.ignorableWhitespace = on_text;
  handler.cdataBlock = on_text;  // script and style, which are dropped
  Writer out(options);
  const std::unique_ptr<htmlParserCtxt, FreeParser> parser(
      htmlCreatePushParserCtxt(&handler, &out, nullptr, 0, nullptr, XML_CHAR_ENCODING_UTF8));
  if (!parser) throw SystemError("cannot start the HTML parser: not enough memory");
  htmlCtxtUseOptions(parser.get(), HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING |
                                       HTML_PARSE_NONET | HTML_PARSE_IGNORE_ENC);
  int64_t work = 0, search = 0;
  for (size_t at = 0; at < html.size(); at += kParserChunk) {
    const std::string_view chunk = html.substr(at, kParserChunk);
    htmlParseChunk(parser.get(), chunk.data(), static_cast<int>(chunk.size()), 0);
    const int64_t tags = end_tags(chunk), closed = out.take_closed();
    work += out.depth() * tags;
    search += out.depth() * std::max<int64_t>(0, tags - closed);
    if (work > kMaximumWork || search > kMaximumSearch) return std::nullopt;
  }
  htmlParseChunk(parser.get(), nullptr, 0, 1);
  std::string text = out.take();
  while (!text.empty() && is_space(text.back())) text.pop_back();
  if (!text.empty()) text += '\n';
  return text;
}

}  // namespace toroid
