#include "data/source/json_line.h"

#include <algorithm>

#include "core/base/text.h"
#include "core/base/utf8.h"

namespace toroid {
namespace {

bool is_high(uint32_t c) {
  return c >= 0xD800 && c < 0xDC00;
}
bool is_low(uint32_t c) {
  return c >= 0xDC00 && c < 0xE000;
}
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// The four hexadecimal digits at text[at], or false where there are none.
bool hex4(std::string_view text, size_t at, uint32_t& value) {
  if (at + 4 > text.size()) return false;
  value = 0;
  for (const char c : text.substr(at, 4)) {
    const int digit = is_digit(c)            ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return false;
    value = value << 4 | static_cast<uint32_t>(digit);
  }
  return true;
}

char escaped(char c) {
  switch (c) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return c == '"' || c == '\\' || c == '/' ? c : '\0';
  }
}

// A string as it stands between its quotes, whose escapes are known to be whole, as text. Returns the halves
// of surrogate pairs.
int64_t unescape(std::string_view raw, std::string& out) {
  int64_t halves = 0;
  out.clear();
  out.reserve(raw.size());
  for (size_t at = 0; at < raw.size();) {
    const size_t backslash = std::min(raw.find('\\', at), raw.size());
    out.append(raw, at, backslash - at);
    at = backslash;
    if (at == raw.size()) break;
    if (raw[at + 1] != 'u') {
      out += escaped(raw[at + 1]);
      at += 2;
      continue;
    }
    uint32_t c = 0, next = 0;
    hex4(raw, at + 2, c);
    at += 6;
    if (is_high(c) && raw.substr(at, 2) == "\\u" && hex4(raw, at + 2, next) && is_low(next)) {
      c = 0x10000 + ((c - 0xD800) << 10) + (next - 0xDC00);
      at += 6;
    } else if (is_high(c) || is_low(c)) {
      c = 0xFFFD;
      ++halves;
    }
    append_utf8(c, out);
  }
  return halves;
}

// Walks over the line once. Each step says whether it found what the grammar wants there, and notes why not.
class Walk {
 public:
  Walk(std::string_view line, const std::string& field) : line_(line), field_(field) {}

  JsonLine run() {
    blanks();
    if (object() && (blanks(), at_ < line_.size())) not_json("something follows the object");
    if (result_.fault == JsonLine::Fault::none && !found_) no_text("it has no " + in_quotes(field_));
    return std::move(result_);
  }

 private:
  bool object() {
    if (peek() != '{') {
      const std::string kind = kind_of_value();
      return kind.empty() ? not_json("no value begins here") : no_text("it is " + kind + ", not an object");
    }
    ++at_;
    blanks();
    if (take('}')) return true;
    do {
      blanks();
      if (!key()) return false;
      if (!(wanted_ ? text() : pass())) return false;
      blanks();
    } while (take(','));
    return take('}') || not_json("a comma or the object's end is missing");
  }

  // A key with its colon and the blanks around it.
  bool key() {
    std::string_view raw;
    if (peek() != '"') return not_json("a field's name in double quotes is missing");
    if (!string(raw)) return false;
    if (raw.find('\\') == std::string_view::npos) {
      wanted_ = raw == field_;
    } else {
      std::string name;
      unescape(raw, name);
      wanted_ = name == field_;
    }
    blanks();
    if (!take(':')) return not_json("a colon after a field's name is missing");
    blanks();
    return true;
  }

  // The value of the wanted field.
  bool text() {
    if (found_) return no_text("it has " + in_quotes(field_) + " twice");
    if (peek() != '"') {
      const std::string kind = kind_of_value();
      return kind.empty() ? not_json("no value begins here")
                          : no_text("its " + in_quotes(field_) + " is " + kind + ", not a string");
    }
    std::string_view raw;
    if (!string(raw)) return false;
    result_.half_surrogates = unescape(raw, result_.text);
    found_ = true;
    return true;
  }

  // Passes over a value of any kind.
  bool pass() {
    open_.clear();
    for (;;) {
      blanks();
      const char c = peek();
      if (c == '{' || c == '[') {
        ++at_;
        open_ += c == '{' ? '}' : ']';
        blanks();
        if (peek() != open_.back()) {
          if (c == '{' && !key()) return false;
          continue;
        }
      } else if (!scalar()) {
        return false;
      }
      // After a value: what closes, and the comma before the next one.
      for (;;) {
        if (open_.empty()) return true;
        blanks();
        if (take(open_.back())) {
          open_.pop_back();
          continue;
        }
        if (!take(',')) return not_json("a comma or a closing bracket is missing");
        break;
      }
      blanks();
      if (open_.back() == '}' && !key()) return false;
    }
  }

  bool scalar() {
    std::string_view ignored;
    if (peek() == '"') return string(ignored);
    if (is_digit(peek()) || (peek() == '-' && !rest().starts_with("-Infinity"))) return number();
    for (const std::string_view word : {"true", "false", "null", "NaN", "Infinity", "-Infinity"}) {
      if (!rest().starts_with(word)) continue;
      at_ += word.size();
      return true;
    }
    return not_json("no value begins here");
  }

  bool number() {
    take('-');
    if (!take('0') && !digits()) return not_json("a number is incomplete");
    if (take('.') && !digits()) return not_json("a number is incomplete");
    if (take('e') || take('E')) {
      if (!take('+')) take('-');
      if (!digits()) return not_json("a number is incomplete");
    }
    return true;
  }

  bool digits() {
    const size_t begin = at_;
    while (is_digit(peek())) ++at_;
    return at_ > begin;
  }

  // What stands between the quotes. A raw NUL is damage of text, as a byte that is not UTF-8, and not of
  // JSON.
  bool string(std::string_view& raw) {
    const size_t begin = ++at_;
    for (; at_ < line_.size(); ++at_) {
      const auto c = static_cast<unsigned char>(line_[at_]);
      if (c == '"') {
        raw = line_.substr(begin, at_++ - begin);
        return true;
      }
      if (c < 0x20 && c != 0) return not_json("a control character stands in a string without an escape");
      if (c != '\\') continue;
      ++at_;
      if (at_ == line_.size()) break;
      uint32_t ignored = 0;
      if (line_[at_] == 'u') {
        if (!hex4(line_, at_ + 1, ignored)) return not_json("\\u is not followed by four hexadecimal digits");
        at_ += 4;
      } else if (escaped(line_[at_]) == '\0') {
        return not_json("no escape is written so");
      }
    }
    return not_json("");  // which says that the line ends
  }

  // "" where no value begins here.
  std::string kind_of_value() const {
    const char c = peek();
    const auto is = [&](std::string_view word) { return rest().starts_with(word); };
    if (is_digit(c) || c == '-' || is("NaN") || is("Infinity")) return "a number";
    if (c == '[') return "an array";
    if (c == '{') return "an object";
    if (c == '"') return "a string";
    if (is("true") || is("false")) return "a boolean";
    return is("null") ? "null" : "";
  }

  void blanks() {
    while (at_ < line_.size() && (peek() == ' ' || peek() == '\t' || peek() == '\r' || peek() == '\n')) ++at_;
  }
  // NUL at the end, which the grammar has nowhere.
  char peek() const { return at_ < line_.size() ? line_[at_] : '\0'; }
  std::string_view rest() const { return line_.substr(at_); }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }

  bool not_json(const std::string& reason) {
    result_.fault = JsonLine::Fault::not_json;
    result_.cut = at_ >= line_.size();
    result_.why = "it is not JSON at its byte " + std::to_string(at_ + 1) + ": " +
                  (result_.cut ? "the line ends before its object does" : reason);
    return false;
  }
  bool no_text(const std::string& why) {
    result_.fault = JsonLine::Fault::no_text;
    result_.why = why;
    return false;
  }

  const std::string_view line_;
  const std::string& field_;
  size_t at_ = 0;
  std::string open_;  // closing brackets that are due, the innermost last
  bool wanted_ = false, found_ = false;
  JsonLine result_;
};

}  // namespace

JsonLine read_json_line(std::string_view line, const std::string& field) {
  return Walk(line, field).run();
}

}  // namespace toroid
